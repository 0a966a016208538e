"""The sessions of a user: seeing them, and ending them from another one.

Endpoints: GET /sessions, DELETE /sessions, DELETE /sessions/{id}. Table: none of its own.
"""

from __future__ import annotations

import falcon

from authapi.core import Core
from authapi.features.sessions import SessionRevoked, Sessions
from authapi.middleware import caller_of
from authapi.principal import principal_of
from authapi.session_tokens import SessionTokens
from authapi.wire import http_date

REQUIRES = ("sessions",)


class SessionsResource:
    """The sessions of the current user."""

    def __init__(self, core: Core, sessions: Sessions) -> None:
        """Take the core and the sessions."""
        self._core = core
        self._sessions = sessions

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Answer them all, newest first."""
        current = principal_of(req).session
        shown = [
            {
                "id": session.id,
                "created_at": http_date(session.created_at),
                "last_seen_at": http_date(session.last_seen_at),
                "expires_at": http_date(session.expires_at),
                "ip": session.ip,
                "user_agent": session.user_agent,
                "current": session.id == current.id,
            }
            for session in self._sessions.of_user(current.user, self._core.clock())
        ]
        self._core.wire.answer(resp, 200, "Sessions.", sessions=shown)

    def on_delete(self, req: falcon.Request, resp: falcon.Response) -> None:
        """End all but the current one. The session must be fresh (ASVS 7.5.2)."""
        current = principal_of(req).session
        current.require_fresh(self._core.clock())
        with self._core.database.transaction():
            self._sessions.require(principal_of(req).claims)
            ended = self._sessions.end_others(current.user.id, caller_of(req), kept=current.id)
        self._core.wire.answer(resp, 200, "Other sessions ended.", ended=ended)


class SessionResource:
    """One session of the current user."""

    def __init__(self, core: Core, sessions: Sessions) -> None:
        """Take the core and the sessions."""
        self._core = core
        self._sessions = sessions

    def on_delete(self, req: falcon.Request, resp: falcon.Response, session_id: str) -> None:
        """End it; another user's is not found, as one that is not there.

        To end another than the current one, the session must be fresh (ASVS 7.5.2).
        """
        core, current = self._core, principal_of(req).session
        if session_id != current.id:
            current.require_fresh(core.clock())
        with core.database.transaction():
            self._sessions.require(principal_of(req).claims)
            ended = self._sessions.end(session_id, current.user.id)
            if ended:
                core.events.emit(SessionRevoked(current.user.id, caller_of(req), session_id))
        if not ended:
            raise falcon.HTTPRouteNotFound
        if session_id == current.id:
            core.of(SessionTokens).delete_brought(req, resp)
        core.wire.answer(resp, 200, "Session ended.")


def setup(app: falcon.App[falcon.Request, falcon.Response], core: Core) -> None:
    """Add the routes."""
    sessions = core.of(Sessions)
    app.add_route("/sessions", SessionsResource(core, sessions))
    app.add_route("/sessions/{session_id}", SessionResource(core, sessions))
