"""The Falcon middleware: headers and request id, the cross-site check, authentication."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any, Protocol

import falcon

from authapi.errors import CrossSiteRequest, Failure, InvalidToken
from authapi.events import Caller
from authapi.settings import Settings
from authapi.tokens import Claims, Tokens
from authapi.wire import UserRecord, Wire

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})  # RFC 9110, 9.2.1; there is no TRACE here


class LiveSession(Protocol):
    """A session that was found alive, with its user."""

    @property
    def user(self) -> UserRecord:
        """Whose session it is."""


def caller_of(req: falcon.Request) -> Caller:
    """Who sent a request, and the id that the request goes by.

    SECURITY: REMOTE_ADDR alone; `req.access_route` believes headers that a client can write.
    """
    try:
        caller: Caller = req.context.caller
    except AttributeError:
        ip = req.env.get("REMOTE_ADDR", "")
        caller = req.context.caller = Caller(ip=ip, request_id=new_request_id())
    return caller


def new_request_id() -> str:
    """64 random bits in hexadecimal, to find a request's log lines by."""
    return secrets.token_hex(8)


class Headers:
    """Gives every response our headers."""

    def __init__(self, wire: Wire) -> None:
        """Take the headers from the wire."""
        self._headers = wire.headers

    def process_response(
        self, req: falcon.Request, resp: falcon.Response, _resource: object, _ok: object
    ) -> None:
        """Add the headers, to failures too."""
        resp.set_headers(self._headers)
        resp.set_header("X-Request-ID", caller_of(req).request_id)


class CrossSite:
    """Refuses requests from other sites that would change something (OWASP CSRF Prevention).

    Browsers say where a request comes from in `Sec-Fetch-Site`, older ones in `Origin`. A client
    that sends neither is no browser, and carries no one else's cookie.
    """

    def __init__(self, settings: Settings) -> None:
        """Take our own origin from the public URL."""
        self._origin = settings.public_url
        self._schemes = ("https",) if settings.https else ("https", "http")

    def process_request(self, req: falcon.Request, _resp: falcon.Response) -> None:
        """Raise CrossSiteRequest."""
        if req.method in SAFE_METHODS:
            return
        site = req.get_header("Sec-Fetch-Site")
        origin = req.get_header("Origin")
        if site is not None:
            passes = site in {"same-origin", "none"}
        else:
            passes = origin is None or self._is_ours(origin, req.get_header("Host"))
        if not passes:
            raise CrossSiteRequest

    def _is_ours(self, origin: str, host: str | None) -> bool:
        return origin == self._origin or origin in {
            f"{scheme}://{host}" for scheme in self._schemes
        }


class Authenticate:
    """Lets only a live session reach a resource, unless the resource says `public = True`.

    Leaves `req.context.session` and `req.context.user`.
    """

    def __init__(
        self,
        wire: Wire,
        tokens: Tokens,
        clock: Callable[[], float],
        find_session: Callable[[Claims, float], LiveSession | None],
    ) -> None:
        """Take how a token is read, and `find_session(claims, now)`: a session, or None."""
        self._wire = wire
        self._tokens = tokens
        self._clock = clock
        self._find_session = find_session

    def process_resource(
        self, req: falcon.Request, _resp: falcon.Response, resource: object, _params: dict[str, Any]
    ) -> None:
        """Raise NotAuthenticated or InvalidToken."""
        if req.method == "OPTIONS" or getattr(resource, "public", False) is True:
            return
        try:
            session = self._session(req)
        except Failure:
            if _answers(resource, req.method):
                raise
            return  # to Falcon's 405
        req.context.session = session
        req.context.user = session.user

    def _session(self, req: falcon.Request) -> LiveSession:
        token = self._wire.token(req)
        now = self._clock()
        session = self._find_session(self._tokens.read(token, now), now)
        if session is None:
            raise InvalidToken
        return session


def _answers(resource: object, method: str) -> bool:
    """Whether any responder of a resource, under whatever suffix, takes the method."""
    responder = f"on_{'get' if method == 'HEAD' else method.lower()}"
    return any(
        name == responder or name.startswith((f"{responder}_", "on_request"))
        for name in dir(resource)
    )
