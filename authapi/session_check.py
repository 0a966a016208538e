"""The session check of another application's requests, which `protect` and `protect_asgi` share."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import falcon

from authapi.app import AuthAPI
from authapi.body_tokens import HEADER
from authapi.errors import CrossSiteRequest, Failure, InvalidToken, NotAuthenticated
from authapi.headers import Lines, is_shared
from authapi.inline import leave_loop
from authapi.middleware import request_id_of
from authapi.principal import Session
from authapi.session_tokens import SessionTokens


@dataclass(frozen=True, slots=True)
class Found:
    """The session of a request; `renewal` has the headers of an answer that renew its token."""

    session: Session
    renewal: tuple[tuple[str, str], ...] = ()

    @property
    def known(self) -> dict[str, object]:
        """Return what an application is told, by the names of both environ and scope."""
        return {"authapi.user": self.session.user, "authapi.session": self.session}


@dataclass(frozen=True, slots=True)
class Refused:
    """The answer to a request that the application does not get."""

    status: str
    headers: Lines
    body: bytes


class SessionCheck:
    """Finds the session of a request that another application answers.

    Where a session is `required`, a request without one is refused. Otherwise it has none, and so
    has a request of another site that would change something.
    """

    def __init__(self, auth: AuthAPI, *, required: bool) -> None:
        """Take the application that knows the sessions."""
        self._auth = auth
        self._required = required
        self._cookie = auth.core.of(SessionTokens).cookie
        self._sessions = auth.core.database.statements("sessions")

    def __call__(self, environ: dict[str, Any]) -> Found | Refused | None:
        """Return the session, the refusal, or None for a request without a session.

        Raises HandOver where the environ says that a loop runs this, and it would wait.
        """
        auth = self._auth
        req = falcon.Request(environ, options=auth.req_options)
        try:
            auth.cross_site.check(req)
            principal = auth.authenticate.principal(req)
            renewed = auth.authenticate.renewed(req)
        except Failure as failure:
            is_anonymous = isinstance(failure, (NotAuthenticated, InvalidToken, CrossSiteRequest))
            if is_anonymous and not self._required:
                auth.tell(req, failure)
                return None
            return self._refused(req, failure)
        if not renewed:
            return Found(principal.session)
        headers = self._cookie.headers(req, renewed.token, renewed.max_age)
        return Found(principal.session, tuple(headers))

    def is_live(self, environ: dict[str, Any], session: Session) -> bool:
        """Return whether a session that was found before has not ended since.

        Raises HandOver where a loop runs this, and it would wait.
        """
        if not self._auth.core.database.is_local:
            leave_loop(environ)
        now = int(self._auth.core.clock())
        row = self._sessions.authenticate(id_hash=session.id, user_id=session.user.id, now=now)
        return row is not None

    def renewal_beside(self, found: Found, headers: Iterable[tuple[str, str]]) -> Lines:
        """Return the headers to add to an answer of the application, to renew the token.

        There are none where it has another token itself, as after a login, or where shared caches
        may keep the answer.
        """
        for name, value in headers:
            kind = name.lower()
            if kind == HEADER.lower() or (
                kind == "set-cookie" and value.startswith(f"{self._cookie.name}=")
            ):
                return []
            if kind == "cache-control" and is_shared(value):
                return []
        return list(found.renewal)

    def _refused(self, req: falcon.Request, failure: Failure) -> Refused:
        auth = self._auth
        # NOTE: first, because this may leave the loop, and the thread logs then.
        is_invalid = isinstance(failure, InvalidToken)
        has_bad_cookies = is_invalid and auth.authenticate.has_bad_cookies(req)
        auth.log(req, failure)
        status, headers, body = auth.core.wire.whole(
            failure,
            accept=req.get_header("Accept", default=""),
            origin=req.get_header("Origin"),
            request_id=request_id_of(req),
        )
        if has_bad_cookies:
            headers += self._cookie.headers(req, "", 0)
        headers.append(("Content-Length", str(len(body))))
        return Refused(status, headers, b"" if req.method == "HEAD" else body)
