"""Session checks of a server's loop, where it must not wait for the database: by look-ups."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from authapi.core import Core
from authapi.database import Key, Pipeline
from authapi.inline import looked_up
from authapi.principal import Claims, Session, User
from authapi.session_tokens import SessionTokens, public_id


class SessionLookUps:
    """Finds live sessions by rows that the server looks up, each by its id and its user's."""

    def __init__(self, core: Core) -> None:
        """Take the core."""
        self._database = core.database
        self._tokens = core.of(SessionTokens)

    def find(self, environ: dict[str, Any], claims: Claims, now: float) -> Session | None:
        """Return the session of a token, or None if it ended or expired or its user is disabled.

        Raises HandOver until the server has looked it up, and Unavailable where it could not.
        """
        session_id, _ = key = _key_of(claims)
        row = looked_up(environ, key)
        if row is None:
            return None
        session = Session(session_id, User(*row[8:]), *row[:8])
        return session if session.expires_at > int(now) else None

    def foreseen(self, headers: Mapping[str, str]) -> Key | None:
        """Return the key that a request will look up; None where that is not known by one token.

        The server then looks it up before the request's first run, which saves that run. The names
        of the header fields are in capitals.
        """
        claims = self._tokens.foreseen(headers)
        return None if claims is None else _key_of(claims)

    def pipeline(self) -> Pipeline | None:
        """Return what looks sessions up for a server's loop; None where the loop reads them."""
        return self._database.pipeline("sessions.authenticate_all")


def _key_of(claims: Claims) -> tuple[str, int]:
    return public_id(claims), claims.id
