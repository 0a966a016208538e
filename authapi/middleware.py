"""The Falcon middleware: headers and request id, the cross-site check, authentication."""

from __future__ import annotations

import logging
import random
from typing import Any, Generic, Protocol, TypeVar

import falcon

from authapi.core import Core
from authapi.errors import (
    CrossSiteRequest,
    Failure,
    HandOver,
    InvalidToken,
    Overloaded,
    Unavailable,
)
from authapi.events import Caller
from authapi.hosts import as_origin, plain_address
from authapi.notices import Notices, quoted
from authapi.passwords import Passwords
from authapi.settings import Settings
from authapi.tokens import Claims
from authapi.wire import UserRecord, Wire

logger = logging.getLogger("authapi")

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})  # RFC 9110, 9.2.1; there is no TRACE here
IN_LOOP = "authapi.in_loop"  # in the environ: whether a server's loop runs the application
USER_AGENT_LENGTH = 256  # characters


class LiveSession(Protocol):
    """A session that was found alive, with its user."""

    @property
    def user(self) -> UserRecord:
        """Whose session it is."""

    def require_fresh(self, now: float) -> None:
        """Raise FreshLoginRequired where its password was given too long ago."""


Session = TypeVar("Session", bound=LiveSession)


class SessionKeeper(Protocol[Session]):
    """Who knows the sessions."""

    def authenticate(self, claims: Claims, now: float) -> Session | None:
        """The live session of a token, or None."""

    def is_due(self, session: Session, now: float) -> bool:
        """Whether its renewal is due, which writes."""

    def renew(self, session: Session, claims: Claims, caller: Caller, now: float) -> Issued | None:
        """A newer token, or None where another request was quicker."""


class Issued(Protocol):
    """A token, what it carries, and for how many seconds it is good."""

    @property
    def claims(self) -> Claims:
        """What the token carries."""

    @property
    def token(self) -> str:
        """The cookie's value."""

    @property
    def max_age(self) -> int:
        """The cookie's `Max-Age`."""


def caller_of(req: falcon.Request) -> Caller:
    """Who sent a request, and the id that the request goes by.

    SECURITY: REMOTE_ADDR alone; `req.access_route` believes headers that a client can write.
    """
    try:
        caller: Caller = req.context.authapi_caller
    except AttributeError:
        caller = req.context.authapi_caller = Caller(
            ip=_canonical(req.env.get("REMOTE_ADDR", "")),
            user_agent=req.get_header("User-Agent", default="")[:USER_AGENT_LENGTH],
            request_id=request_id_of(req),
        )
    return caller


def _canonical(address: str) -> str:
    try:
        return plain_address(address)
    except ValueError:  # none, as on a Unix socket
        return address


def request_id_of(req: falcon.Request) -> str:
    """The id that a request goes by, in its answer and in the log."""
    try:
        request_id: str = req.context.authapi_request_id
    except AttributeError:
        request_id = req.context.authapi_request_id = new_request_id()
    return request_id


def new_request_id() -> str:
    """64 bits in hexadecimal, to find a request's log lines by. They are no secret."""
    return f"{random.getrandbits(64):016x}"


def add_headers(wire: Wire, req: falcon.Request, resp: falcon.Response) -> None:
    """Give a response the headers of every answer, and its request id."""
    vary = resp.get_header("Vary") if wire.headers.varies else None
    resp.set_headers(wire.headers.of(req.env.get("HTTP_ORIGIN")))
    if vary:
        resp.append_header("Vary", vary)
    resp.set_header("X-Request-ID", request_id_of(req))


class Headers:
    """Gives every response our headers."""

    def __init__(self, wire: Wire) -> None:
        """Take the headers from the wire."""
        self._wire = wire

    def process_response(
        self, req: falcon.Request, resp: falcon.Response, _resource: object, _ok: object
    ) -> None:
        """Add the headers, to failures too, and the cookie; answer a preflight."""
        add_headers(self._wire, req, resp)
        self._wire.write_cookies(resp)
        if req.method == "OPTIONS" and req.get_header("Access-Control-Request-Method"):
            methods = resp.get_header("Allow")
            if methods:
                origin = req.get_header("Origin")
                resp.set_headers(self._wire.headers.of_preflight(origin, methods))


class CrossSite:
    """Refuses requests from other sites that would change something (OWASP CSRF Prevention).

    Browsers say where a request comes from in `Sec-Fetch-Site`, older ones in `Origin`. A client
    that sends neither is no browser, and carries no one else's cookie. Allowed origins pass, and
    may read the answers (Fetch Standard, 3.2).

    NOTE: a header of several lines arrives as one list, which is none of the values looked for.
    """

    def __init__(self, settings: Settings, notices: Notices) -> None:
        """Take our own origin from the public URL, and the others that are allowed."""
        self._origin = settings.public_url
        self._schemes = ("https",) if settings.https else ("https", "http")
        self._allowed = settings.origins
        self._notices = notices

    def process_request(self, req: falcon.Request, _resp: falcon.Response) -> None:
        """Raise CrossSiteRequest; tell the operator of a preflight that will come to nothing."""
        self.check(req)
        if req.method == "OPTIONS" and req.get_header("Access-Control-Request-Method"):
            origin = req.get_header("Origin")
            if origin is not None and origin not in self._allowed:
                self._tell(req)

    def check(self, req: falcon.Request) -> None:
        """Raise CrossSiteRequest."""
        if req.method not in SAFE_METHODS and not self._passes(req):
            self._tell(req)
            raise CrossSiteRequest

    def _passes(self, req: falcon.Request) -> bool:
        origin = req.get_header("Origin")
        if origin in self._allowed:
            return True
        site = req.get_header("Sec-Fetch-Site")
        if site is not None:
            return site in {"same-origin", "none"}
        return origin is None or self._is_ours(origin, req.get_header("Host"))

    def _is_ours(self, origin: str, host: str | None) -> bool:
        return origin == self._origin or origin in self._origins_of(host or "")

    def _origins_of(self, host: str) -> list[str]:
        """The origins of a `Host`, which may have any case and a default port."""
        try:
            return [as_origin(f"{scheme}://{host}") for scheme in self._schemes]
        except ValueError:
            return []

    def _tell(self, req: falcon.Request) -> None:
        found = {"origin": req.get_header("Origin"), "site": req.get_header("Sec-Fetch-Site")}
        shown = " ".join(f"{name}={quoted(value)}" for name, value in found.items() if value)
        detail = f"{shown} setting=AUTHAPI_ALLOWED_ORIGINS"
        self._notices.refused(CrossSiteRequest.error, caller_of(req).ip, detail)


class Shed:
    """Refuses at once what would find no place on the hash lane, where a resource `hashes`.

    NOTE: so a server's loop can refuse it: each thread that did would compete with the loop for
    the interpreter lock, and session checks would stop in a storm of logins.
    """

    def __init__(self, passwords: Passwords) -> None:
        """Take the lane."""
        self._passwords = passwords

    def process_resource(
        self, req: falcon.Request, _resp: falcon.Response, resource: object, _params: dict[str, Any]
    ) -> None:
        """Raise Overloaded; or HandOver in the loop, which must not hash."""
        if getattr(resource, "hashes", False) is True and req.method not in SAFE_METHODS:
            if self._passwords.is_full:
                raise Overloaded
            if req.env.get(IN_LOOP):
                raise HandOver


class Authenticate(Generic[Session]):
    """Lets only a live session reach a resource, unless the resource says `public = True`.

    Where it says `fresh = True` the session's password must have been given a short while ago.
    Leaves `req.context.session`, `req.context.user` and `req.context.claims`. A session that is in
    use is renewed, unless the resource says `renews = False`.
    """

    def __init__(
        self,
        core: Core,
        sessions: SessionKeeper[Session],
    ) -> None:
        """Take the core, and who knows the sessions."""
        self._wire = core.wire
        self._tokens = core.tokens
        self._clock = core.clock
        self._turns = core.database.turns
        self._renew_after = core.settings.session_renew_after
        self._sessions = sessions

    def process_resource(
        self, req: falcon.Request, resp: falcon.Response, resource: object, _params: dict[str, Any]
    ) -> None:
        """Raise NotAuthenticated, InvalidToken or FreshLoginRequired."""
        if req.method == "OPTIONS" or getattr(resource, "public", False) is True:
            return
        try:
            session = self.session(req)
            if getattr(resource, "fresh", False) is True:
                session.require_fresh(self._clock())
        except Failure:
            methods = _methods(resource)
            if req.method in methods:
                raise
            raise falcon.HTTPMethodNotAllowed([*methods, "OPTIONS"]) from None
        if getattr(resource, "renews", True) is True:
            renewed = self.renewed(req)
            if renewed:
                self._wire.set_token(resp, renewed.token, renewed.max_age)

    def session(self, req: falcon.Request) -> Session:
        """The session that a request carries. Raises NotAuthenticated or InvalidToken."""
        now = self._clock()
        claims = self._tokens.read(self._wire.token(req), now)
        session = self._sessions.authenticate(claims, now)
        if session is None:
            raise InvalidToken
        req.context.claims = claims
        req.context.session = session
        req.context.user = session.user
        return session

    def renewed(self, req: falcon.Request) -> Issued | None:
        """A newer token for the session of a request, where its own is old. Raises HandOver.

        At most one request in `session_renew_after` seconds writes; the older token stays good.
        """
        claims, session, now = req.context.claims, req.context.session, self._clock()
        if now - claims.iat < self._renew_after:
            return None
        if self._sessions.is_due(session, now):
            if self._turns.are_stuck:  # threads that wait for them are for others
                return None
            if req.env.get(IN_LOOP):
                raise HandOver
        try:
            issued = self._sessions.renew(session, claims, caller_of(req), now)
        except Unavailable as unavailable:  # a session is worth its answer, renewed or not
            logger.warning("a session was not renewed: %s", unavailable.__cause__)
            return None
        if issued:
            req.context.claims = issued.claims
        return issued


def _methods(resource: object) -> list[str]:
    """The methods that a resource takes, under whatever suffix of a route.

    SECURITY: whatever this says, nothing passes that is not authenticated: it only decides between
    401 and 405.
    """
    responders = {name for name in dir(resource) if name.startswith("on_")}
    found = {
        method
        for method in falcon.COMBINED_METHODS
        if callable(getattr(resource, f"on_{method.lower()}", None))
        or any(name.startswith((f"on_{method.lower()}_", "on_request")) for name in responders)
    }
    if "GET" in found:
        found.add("HEAD")
    return sorted(found - {"OPTIONS"})
