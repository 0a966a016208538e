"""Renewal: a session in use gets a later expiry and a newer token, with whatever it asks for.

Endpoints: none. Table: none of its own.
"""

from __future__ import annotations

import logging

import falcon
import msgspec

from authapi.core import Core
from authapi.errors import InvalidToken, Unavailable
from authapi.events import Event
from authapi.features.sessions import SessionRepository, Sessions
from authapi.inline import leave_loop
from authapi.middleware import caller_of
from authapi.principal import Session, principal_of
from authapi.session_tokens import Issued, SessionTokens
from authapi.settings import SessionSettings

REQUIRES = ("sessions",)

PATIENCE = 0.05  # seconds; a renewal that must wait longer is left to a later request

logger = logging.getLogger("authapi")


class SessionRenewed(Event):
    """A session in use was renewed: it expires later."""

    __slots__ = ()


class Renewal:
    """Renews sessions: at most one write in `session_renew_after` seconds for each."""

    def __init__(self, core: Core) -> None:
        """Take the core."""
        self._core = core
        self._clock = core.clock
        self._after = core.settings.of(SessionSettings).session_renew_after
        self._rows = core.of(SessionRepository)
        self._sessions = core.of(Sessions)
        self._tokens = core.of(SessionTokens)

    def renewed(self, req: falcon.Request) -> Issued | None:
        """Return a newer token for the session of a request, where its own is old.

        The write happens on a thread and not in the server's loop. The older token stays good.
        Return None where another request was quicker, or the database cannot be written now. Raises
        InvalidToken where this is the session's end.
        """
        principal, now = principal_of(req), self._clock()
        claims, session = principal.claims, principal.session
        if now - claims.iat < self._after:
            return None
        seen_at, expires_at = session.last_seen_at, session.expires_at
        if now - seen_at >= self._after:
            if self._core.database.is_stuck:  # a thread that waits could answer other requests
                return None
            leave_loop(req.env)
            seen_at = int(now)
            expires_at = self._sessions.expiry(seen_at, session.created_at)
            if not self._moved(req, session, seen_at, expires_at):
                return None
            if expires_at <= now:  # the longest life was made shorter
                raise InvalidToken
        issued = self._tokens.issue_for(
            session.user, claims.sid, issued_at=seen_at, expires_at=expires_at
        )
        req.context.principal = msgspec.structs.replace(principal, claims=issued.claims)
        return issued

    def _moved(self, req: falcon.Request, session: Session, seen_at: int, expires_at: int) -> bool:
        """Move the expiry of a session; return whether this request did."""
        core, caller = self._core, caller_of(req)
        try:
            with core.database.transaction(patience=PATIENCE):
                moved = self._rows.renew(
                    session.id,
                    caller,
                    seen_until=seen_at - self._after,
                    now=seen_at,
                    expires_at=expires_at,
                )
                if moved:
                    core.events.emit(SessionRenewed(session.user.id, caller, session.id))
        except Unavailable as unavailable:  # a session is worth its answer, renewed or not
            if unavailable.__cause__:
                logger.warning("a session was not renewed: %s", unavailable.__cause__)
            return False
        return moved


def setup(_app: falcon.App[falcon.Request, falcon.Response], _core: Core) -> None:
    """Add nothing: the application renews the session of each request."""
