"""The Falcon middleware, but for authentication: headers and request id, the cross-site check."""

from __future__ import annotations

import random
from functools import lru_cache

import falcon

from authapi.body_tokens import TokenNotAllowed, refuses_cookies
from authapi.core import Core
from authapi.errors import CrossSiteRequest, Failure
from authapi.events import Caller
from authapi.hosts import as_origin, plain_address
from authapi.notices import Notices, quoted
from authapi.settings import ServerSettings, Settings
from authapi.wire import Wire

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})  # RFC 9110, 9.2.1; there is no TRACE here
USER_AGENT_LENGTH = 256  # characters
REQUEST_ID = "authapi.request_id"  # in the environ: the id of the request
TRACE_ID = "authapi.trace_id"  # in the environ: the id of the trace that it belongs to


def caller_of(req: falcon.Request) -> Caller:
    """Return the client of a request, with the request's id.

    SECURITY: REMOTE_ADDR alone; `req.access_route` believes headers that a client can write.
    """
    caller: Caller | None = getattr(req.context, "authapi_caller", None)
    if caller is None:
        caller = req.context.authapi_caller = Caller(
            ip=_canonical(req.env.get("REMOTE_ADDR", "")),
            user_agent=req.get_header("User-Agent", default="")[:USER_AGENT_LENGTH],
            request_id=request_id_of(req),
            trace_id=req.env.get(TRACE_ID, ""),
        )
    return caller


@lru_cache(maxsize=1_024)
def _canonical(address: str) -> str:
    try:
        return plain_address(address)
    except ValueError:  # none, as on a Unix socket
        return address


def request_id_of(req: falcon.Request) -> str:
    """Return the id of a request, which is in its answer and in the log."""
    request_id: str | None = req.env.get(REQUEST_ID)
    if request_id is None:
        request_id = req.env[REQUEST_ID] = new_request_id()
    return request_id


def new_request_id() -> str:
    """Return 64 random bits in hexadecimal, which name a request in the log. They are no secret."""
    return f"{random.getrandbits(64):016x}"


def asks_for_token(req: falcon.Request) -> bool:
    """Return whether a request asks for a token in the body of its answer.

    SECURITY: one with a safe method does not, because nobody checks its origin.
    """
    return req.method not in SAFE_METHODS and refuses_cookies(req)


def add_headers(wire: Wire, req: falcon.Request, resp: falcon.Response) -> None:
    """Give a response the headers of every answer, and its request id."""
    vary = resp.get_header("Vary") if wire.headers.varies else None
    resp.set_headers(wire.headers.of(req.env.get("HTTP_ORIGIN")))
    if vary:
        resp.append_header("Vary", vary)
    resp.set_header("X-Request-ID", request_id_of(req))


class Headers:
    """Gives every response our headers."""

    def __init__(self, core: Core) -> None:
        """Take the headers from the wire, and the cookies."""
        self._wire = core.wire
        self._cookies = core.cookies

    def process_response(
        self, req: falcon.Request, resp: falcon.Response, resource: object, succeeded: object
    ) -> None:
        """Add the headers and the cookies; answer a preflight.

        A resource's `answer_headers` replace some, where it answers a GET with no failure.
        """
        add_headers(self._wire, req, resp)
        own = getattr(resource, "answer_headers", None)
        if own and succeeded and req.method in {"GET", "HEAD"}:
            resp.set_headers(own)
        self._cookies.write(req, resp)
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
        server = settings.of(ServerSettings)
        self._origin = server.public_url
        self._schemes = ("https",) if server.https else ("https", "http")
        self._allowed = server.origins
        self._notices = notices

    def process_request(self, req: falcon.Request, _resp: falcon.Response) -> None:
        """Raise CrossSiteRequest, or TokenNotAllowed for a page that must not have a token.

        Tell the operator of a preflight that will come to nothing.
        """
        self.check(req)
        if req.method == "OPTIONS" and req.get_header("Access-Control-Request-Method"):
            origin = req.get_header("Origin")
            if origin is not None and origin not in self._allowed:
                self._tell(req, CrossSiteRequest)
        elif asks_for_token(req) and not self._may_have_token(req):
            self._tell(req, TokenNotAllowed)
            raise TokenNotAllowed

    def check(self, req: falcon.Request, method: str = "") -> None:
        """Raise CrossSiteRequest. A method counts in place of the request's own, if it is given."""
        if (method or req.method) not in SAFE_METHODS and not self._passes(req):
            self._tell(req, CrossSiteRequest)
            raise CrossSiteRequest

    def _passes(self, req: falcon.Request) -> bool:
        origin = req.get_header("Origin")
        if origin in self._allowed:
            return True
        site = req.get_header("Sec-Fetch-Site")
        if site is not None:
            return site in {"same-origin", "none"}
        return origin is None or self._is_ours(origin, req.get_header("Host"))

    def _may_have_token(self, req: falcon.Request) -> bool:
        """Return whether a request is of an allowed origin, or of a client that is no browser.

        SECURITY: our own pages are refused too. Their sessions stay in the cookie, which no script
        can read. Every browser sends `Origin` with a request that has the header of tokens.
        """
        origin = req.get_header("Origin")
        if origin is not None:
            return origin in self._allowed
        return req.get_header("Sec-Fetch-Site") is None

    def _is_ours(self, origin: str, host: str | None) -> bool:
        """Return whether an origin is the public URL, or that of the `Host` in any case."""
        found = [as_origin(f"{scheme}://{host}") for scheme in self._schemes]
        return origin in {self._origin, *found}

    def _tell(self, req: falcon.Request, failure: type[Failure]) -> None:
        found = {"origin": req.get_header("Origin"), "site": req.get_header("Sec-Fetch-Site")}
        shown = " ".join(f"{name}={quoted(value)}" for name, value in found.items() if value)
        setting = self._setting_of(req, failure)
        detail = f"{shown} setting={setting}" if setting else shown
        self._notices.refused(failure.error, caller_of(req).ip, detail)

    def _setting_of(self, req: falcon.Request, failure: type[Failure]) -> str:
        """Return the setting to look at, or none for our own page, which is to use the cookie.

        A page of our own that is refused as another site's can only have another scheme.
        """
        origin = req.get_header("Origin")
        host = req.get_header("Host")
        if origin is None or not (
            origin == as_origin(f"http://{host}") or self._is_ours(origin, host)
        ):
            return "AUTHAPI_ALLOWED_ORIGINS"
        return "" if failure is TokenNotAllowed else "AUTHAPI_PUBLIC_URL"
