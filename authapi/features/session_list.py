"""The list of a user's sessions, and how to end one from another.

Endpoints: GET /sessions, DELETE /sessions, DELETE /sessions/{id}. Table: none of its own.
"""

from __future__ import annotations

from typing import Annotated

import falcon
import msgspec
from msgspec import Meta

from authapi.answers import Answer, http_date
from authapi.core import Core
from authapi.errors import FreshLoginRequired, NotFound
from authapi.features.sessions import SessionRevoked, Sessions
from authapi.middleware import caller_of
from authapi.operations import operation
from authapi.personal_data import PersonalData
from authapi.principal import User, fresh, principal_of
from authapi.session_tokens import SessionTokens
from authapi.times import timestamp

REQUIRES = ("sessions",)


class ShownSession(msgspec.Struct):
    """A session in an answer. The times are HTTP-dates."""

    id: Annotated[str, Meta(description="Public, and not the secret in the token.")]
    created_at: str
    last_seen_at: Annotated[str, Meta(description="The last login, reauthentication or renewal.")]
    expires_at: Annotated[str, Meta(description="When it ends if it is not renewed.")]
    ip: str
    user_agent: str
    current: Annotated[bool, Meta(description="The session that asks.")]


class SessionsAnswer(Answer, kw_only=True):
    """An answer that shows the sessions of a user."""

    sessions: list[ShownSession]


class EndedAnswer(Answer, kw_only=True):
    """An answer that says how many sessions have ended."""

    ended: Annotated[int, Meta(description="How many sessions have ended.")]


class SessionsResource:
    """The sessions of the current user."""

    def __init__(self, core: Core, sessions: Sessions) -> None:
        """Take the core and the sessions."""
        self._core = core
        self._sessions = sessions

    @operation(
        "List the sessions of the current user.", name="listSessions", answers=SessionsAnswer
    )
    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Answer them all, newest first."""
        current = principal_of(req).session
        shown = [
            ShownSession(
                id=session.id,
                created_at=http_date(session.created_at),
                last_seen_at=http_date(session.last_seen_at),
                expires_at=http_date(session.expires_at),
                ip=session.ip,
                user_agent=session.user_agent,
                current=session.id == current.id,
            )
            for session in self._sessions.of_user(current.user, self._core.clock())
        ]
        self._core.wire.answer(resp, SessionsAnswer(message="Sessions.", sessions=shown))

    @operation(
        "End the other sessions of the current user.",
        name="endOtherSessions",
        answers=EndedAnswer,
        needs=(fresh,),
    )
    def on_delete(self, req: falcon.Request, resp: falcon.Response) -> None:
        """End all but the current one. The session must be fresh (ASVS 7.5.2)."""
        current = principal_of(req).session
        with self._core.database.transaction(of=current.user.id):
            self._sessions.require(principal_of(req).claims)
            ended = self._sessions.end_others(current.user.id, caller_of(req), kept=current.id)
        self._core.wire.answer(resp, EndedAnswer(message="Other sessions ended.", ended=ended))


class SessionResource:
    """One session of the current user."""

    def __init__(self, core: Core, sessions: Sessions) -> None:
        """Take the core and the sessions."""
        self._core = core
        self._sessions = sessions

    @operation(
        "End a session of the current user.",
        name="endSession",
        raises=(FreshLoginRequired, NotFound),
        headers={"Set-Cookie": "Deletes the session cookie, if that was the current session."},
        path={"session_id": "The public id of the session, from the list."},
    )
    def on_delete(self, req: falcon.Request, resp: falcon.Response, session_id: str) -> None:
        """End it; another user's is not found, as one that is not there.

        To end another than the current one, the session must be fresh (ASVS 7.5.2).
        """
        core, current = self._core, principal_of(req).session
        if session_id != current.id:
            current.require_fresh(core.clock())
        with core.database.transaction(of=current.user.id):
            self._sessions.require(principal_of(req).claims)
            # NOTE: PostgreSQL takes no text with a NUL, which is no id anyway.
            ended = "\0" not in session_id and self._sessions.end(session_id, current.user.id)
            if ended:
                core.events.emit(SessionRevoked(current.user.id, caller_of(req), session_id))
        if not ended:
            raise falcon.HTTPRouteNotFound
        if session_id == current.id:
            core.of(SessionTokens).delete_brought(req, resp)
        core.wire.answer(resp, Answer(message="Session ended."))


def _kept(core: Core, user: User) -> list[dict[str, object]]:
    """Return all sessions of a user, newest first, also those that have expired."""
    return [
        {
            "id": each.id,
            "created_at": timestamp(each.created_at),
            "authenticated_at": timestamp(each.authenticated_at),
            "last_seen_at": timestamp(each.last_seen_at),
            "expires_at": timestamp(each.expires_at),
            "second_factor_at": timestamp(each.second_factor_at),
            "methods": sorted(each.methods),
            "ip": each.ip,
            "user_agent": each.user_agent,
        }
        for each in core.of(Sessions).of_user(user, 0)
    ]


PERSONAL_DATA = (PersonalData("sessions", ("sessions", "replaced_sessions"), _kept),)


def setup(app: falcon.App[falcon.Request, falcon.Response], core: Core) -> None:
    """Add the routes."""
    sessions = core.of(Sessions)
    app.add_route("/sessions", SessionsResource(core, sessions))
    app.add_route("/sessions/{session_id}", SessionResource(core, sessions))
