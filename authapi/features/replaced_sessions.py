"""Replaced sessions: for a minute it is known which sessions another one took the place of.

An answer to a request that was on its way with an older token must not delete the newer cookie.

Endpoints: none. Table: replaced_sessions.
"""

from __future__ import annotations

from collections.abc import Iterable

import falcon

from authapi.core import Core
from authapi.events import Caller
from authapi.features.sessions import SessionRevoked, Sessions
from authapi.principal import Claims
from authapi.session_tokens import SessionTokens, public_id

REQUIRES = ("sessions",)

REMEMBERED_FOR = 60  # seconds after which no answer to an older request is on its way any more


class ReplacedSessions:
    """Ends the sessions that a login replaces, and remembers them for a minute."""

    def __init__(self, core: Core) -> None:
        """Take the core."""
        self._core = core
        self._sessions = core.of(Sessions)
        self._tokens = core.of(SessionTokens)
        self._statements = core.database.statements("replaced_sessions")

    def owners(self, req: falcon.Request, user_id: int | None) -> set[int]:
        """Return a user's id, if there is one, and those of the users of cookies with `req`."""
        ids = {claims.id for claims in self._tokens.presented(req).of_cookies}
        return ids if user_id is None else {user_id, *ids}

    def end_brought(self, req: falcon.Request, caller: Caller) -> list[str]:
        """End the sessions of the cookies that a request brings, in a transaction of their owners.

        Return the public ids of those that were live, whoever's they were (ASVS 7.2.4).
        """
        now, ended = self._core.clock(), []
        for claims in self._tokens.presented(req).of_cookies:
            session_id = public_id(claims)
            if claims.exp > now and self._sessions.end(session_id, claims.id):
                self._core.events.emit(SessionRevoked(claims.id, caller, session_id))
                ended.append(session_id)
        return ended

    def remember(self, replaced: Iterable[str], by: str) -> None:
        """Remember that a session took the place of others, by public ids, inside a transaction."""
        now = int(self._core.clock())
        for session_id in replaced:
            self._statements.forget(replaced_by=by, since=now - REMEMBERED_FOR)
            self._statements.add(id_hash=session_id, replaced_by=by, now=now)

    def include(self, claims: Claims, now: float) -> bool:
        """Return whether a live session took the place of a token's session a moment ago."""
        since = int(now) - REMEMBERED_FOR
        return bool(self._statements.has(id_hash=public_id(claims), since=since))


def setup(_app: falcon.App[falcon.Request, falcon.Response], _core: Core) -> None:
    """Add nothing: SignIn uses ReplacedSessions."""
