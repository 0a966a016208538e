"""Sessions inside another application: `mount` for Falcon's, `protect` for any of WSGI."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable
from inspect import iscoroutinefunction
from types import TracebackType
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

import falcon

from authapi.app import AuthAPI, create_app
from authapi.errors import CrossSiteRequest, Failure, InvalidToken, NotAuthenticated
from authapi.headers import is_shared
from authapi.middleware import add_headers, request_id_of
from authapi.operations import operation_of, prepared
from authapi.routing import check_resource
from authapi.session_tokens import SessionTokens
from authapi.settings import Settings

_PREFIX = re.compile(r"(/[A-Za-z0-9._~-]+)+")


def mount(
    app: falcon.App[Any, Any],
    settings: Settings,
    *,
    prefix: str = "/auth",
    clock: Callable[[], float] = time.time,
) -> AuthAPI:
    """Put our routes under a prefix of a Falcon application, and its own under our protection.

    Its resources need a session from now on unless they say `public = True`, and find it in
    `req.context.session`, its user in `req.context.user`. Sinks and static routes stay open, for
    Falcon calls no authentication before them. Gives the mounted application, to close it, or to
    subscribe to its events. Raises TypeError for an ASGI application and for a second mount,
    ValueError for a prefix that is no path, StartError.
    """
    _require_wsgi(app)
    if not isinstance(app, falcon.App) or isinstance(app, AuthAPI):
        raise TypeError(f"mount takes a falcon.App, not {type(app).__name__}: see protect")
    if isinstance(app._router_search, _CheckedSearch):  # noqa: SLF001 - Falcon has no public way
        raise TypeError("authapi is mounted in this application already: mount it once")
    if not _PREFIX.fullmatch(prefix):
        raise ValueError(f"prefix must be a path such as /auth, not {prefix!r}")
    auth = create_app(settings, clock=clock)
    guard = _Guard(auth)
    app.add_middleware(guard)
    app._router_search = _CheckedSearch(app._router_search, clock)  # noqa: SLF001
    app.add_error_handler(Failure, guard.fail)
    app.add_sink(_Mounted(auth, prefix), re.compile(rf"{re.escape(prefix)}(/|\Z)"))
    return auth


class Protected:
    """A WSGI application behind `protect`. `auth` is the application that serves our routes."""

    def __init__(self, app: WSGIApplication, auth: AuthAPI, *, required: bool) -> None:
        """Take the application, who knows the sessions, and whether one is required."""
        self._app = app
        self.auth = auth
        self._required = required

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Pass a request on, with its session where it has one."""
        auth = self.auth
        req = falcon.Request({"PATH_INFO": "", **environ}, options=auth.req_options)
        try:
            auth.cross_site.check(req)
            principal = auth.authenticate.principal(req)
            renewed = auth.authenticate.renewed(req)
        except Failure as failure:
            anonymous = isinstance(failure, (NotAuthenticated, InvalidToken, CrossSiteRequest))
            if anonymous and not self._required:
                auth.tell(req, failure)
                return self._app(environ, start_response)
            return self._refuse(req, failure, start_response)
        if renewed:
            cookie = auth.core.of(SessionTokens).cookie
            lines = cookie.lines(req, renewed.token, renewed.max_age)
            start_response = _with_cookie(start_response, cookie.name, lines)
        known = {
            # SECURITY: applications keep data by REMOTE_USER, and a username can change hands.
            "REMOTE_USER": str(principal.user.id),
            "authapi.user": principal.user,
            "authapi.session": principal.session,
        }
        return self._app({**environ, **known}, start_response)

    def close(self) -> None:
        """Close the database, when no request is running any more."""
        self.auth.close()

    def _refuse(
        self, req: falcon.Request, failure: Failure, start_response: StartResponse
    ) -> Iterable[bytes]:
        self.auth.log(req, failure)
        wire = self.auth.core.wire
        status, headers, body = wire.whole(
            failure,
            accept=req.get_header("Accept", default=""),
            origin=req.get_header("Origin"),
            request_id=request_id_of(req),
        )
        if isinstance(failure, InvalidToken) and self.auth.authenticate.has_bad_cookies(req):
            lines = self.auth.core.of(SessionTokens).cookie.lines(req, "", 0)
            headers += [("Set-Cookie", line) for line in lines]
        start_response(status, [*headers, ("Content-Length", str(len(body)))])
        return [] if req.method == "HEAD" else [body]


def protect(
    app: WSGIApplication,
    settings: Settings,
    *,
    required: bool = False,
    clock: Callable[[], float] = time.time,
) -> Protected:
    """Tell a WSGI application, such as Flask's or Django's, which user sends a request.

    A live session puts REMOTE_USER (the user's id in decimal), `authapi.user` and
    `authapi.session` into the environ, and is renewed. A request without a session is passed on
    untouched, or answered 401 where one is required. A request from another site that would change
    something counts as one without a session, or is answered 403. Raises TypeError for an ASGI
    application, StartError.
    """
    _require_wsgi(app)
    return Protected(app, create_app(settings, clock=clock), required=required)


class _CheckedSearch:
    """Falcon's search for a route, for applications whose resources must be protected.

    SECURITY: the host's router does not know what `@operation` declares, such as its needs.
    """

    def __init__(self, search: Callable[..., Any], clock: Callable[[], float]) -> None:
        self._search = search
        self._clock = clock

    def __call__(self, uri: str, req: falcon.Request | None = None) -> Any:  # noqa: ANN401 - Falcon's
        route = self._search(uri, req=req)
        if route is None:
            return None
        resource, responders, *rest = route
        check_resource(resource)
        if req and operation_of(responder := responders.get(req.method)):
            responders = {**responders, req.method: prepared(responder, self._clock)}
        return resource, responders, *rest


def _require_wsgi(app: Callable[..., Any]) -> None:
    if not callable(app):
        raise TypeError(f"{app!r} is not a WSGI application")
    # Falcon's own, Starlette's and FastAPI's applications have a coroutine for their __call__.
    if iscoroutinefunction(app) or iscoroutinefunction(type(app).__call__):
        raise TypeError(
            f"{type(app).__name__} is an ASGI application, and this is for WSGI: "
            "run authapi beside it, and have a proxy ask GET /verify."
        )


def _with_cookie(start_response: StartResponse, name: str, lines: list[str]) -> StartResponse:
    """Set a cookie with an answer, unless it sets the same itself, as a login does."""

    def start(
        status: str,
        headers: list[tuple[str, str]],
        exc_info: tuple[type[BaseException], BaseException, TracebackType]
        | tuple[None, None, None]
        | None = None,
    ) -> Callable[[bytes], object]:
        set_already = any(
            key.lower() == "set-cookie" and value.startswith(f"{name}=") for key, value in headers
        )
        cached = any(key.lower() == "cache-control" and is_shared(value) for key, value in headers)
        ours = [] if set_already or cached else [("Set-Cookie", line) for line in lines]
        return start_response(status, [*headers, *ours], exc_info)

    return start


class _Guard:
    """The middleware of a host application: its own resources are protected as ours are."""

    def __init__(self, auth: AuthAPI) -> None:
        self._auth = auth

    def process_resource(
        self,
        req: falcon.Request,
        resp: falcon.Response,
        resource: object,
        params: dict[str, Any],
    ) -> None:
        if getattr(resource, "public", False) is not True:
            self._auth.cross_site.check(req)
            self._auth.authenticate.process_resource(req, resp, resource, params)

    def process_response(
        self, req: falcon.Request, resp: falcon.Response, _resource: object, _ok: object
    ) -> None:
        self._auth.core.cookies.write(req, resp)

    def fail(
        self, req: falcon.Request, resp: falcon.Response, failure: Failure, params: object
    ) -> None:
        """Answer a failure as our own application does, with its headers."""
        add_headers(self._auth.core.wire, req, resp)
        self._auth.fail(req, resp, failure, params)


class _Mounted:
    """Our application as a sink of another one."""

    def __init__(self, auth: AuthAPI, prefix: str) -> None:
        self._auth = auth
        self._prefix = prefix

    def __call__(self, req: falcon.Request, resp: falcon.Response, **_: str) -> None:
        """Let our application answer, under its own rules."""
        environ = {
            **req.env,
            "SCRIPT_NAME": req.env.get("SCRIPT_NAME", "") + self._prefix,
            "PATH_INFO": req.env["PATH_INFO"].removeprefix(self._prefix),
        }

        def start_response(
            status: str, headers: list[tuple[str, str]], _exc_info: object = None
        ) -> Callable[[bytes], object]:
            resp.status = status
            for name, value in headers:
                write = resp.append_header if name.lower() == "set-cookie" else resp.set_header
                write(name, value)
            return _write_nothing

        resp.data = b"".join(self._auth(environ, start_response))


def _write_nothing(_: bytes) -> None:
    """Falcon's applications write through what they return."""
