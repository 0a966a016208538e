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
from authapi.errors import Failure
from authapi.middleware import add_headers
from authapi.operations import operation_of, prepared
from authapi.routing import check_resource
from authapi.session_check import Found, Refused, SessionCheck
from authapi.settings import Settings

PREFIX = re.compile(r"(/[A-Za-z0-9._~-]+)+")


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
    if not PREFIX.fullmatch(prefix):
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
        self._check = SessionCheck(auth, required=required)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Pass a request on, with its session where it has one."""
        found = self._check({"PATH_INFO": "", **environ})
        if found is None:
            return self._app(environ, start_response)
        if isinstance(found, Refused):
            start_response(found.status, found.headers)
            return [found.body] if found.body else []
        if found.renewal:
            start_response = _with_renewal(start_response, self._check, found)
        # SECURITY: applications keep data by REMOTE_USER, and a username can change hands.
        key = {"REMOTE_USER": str(found.session.user.id)}
        return self._app({**environ, **key, **found.known}, start_response)

    def close(self) -> None:
        """Close the database, when no request is running any more."""
        self.auth.close()


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
            f"{type(app).__name__} is an ASGI application, and this is for WSGI: use protect_asgi"
        )


def _with_renewal(
    start_response: StartResponse, check: SessionCheck, found: Found
) -> StartResponse:
    """Give the token of a renewed session with an answer."""

    def start(
        status: str,
        headers: list[tuple[str, str]],
        exc_info: tuple[type[BaseException], BaseException, TracebackType]
        | tuple[None, None, None]
        | None = None,
    ) -> Callable[[bytes], object]:
        ours = check.renewal_beside(found, headers)
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
