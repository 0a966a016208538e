"""Sessions inside an ASGI application: `protect_asgi`, for FastAPI, Starlette, Django or Litestar.

The event loop runs the session check itself, as our own server's loop does: it takes microseconds.
What waits leaves the loop and runs again on a thread: a renewal, which is a write, and on
PostgreSQL each look-up of a session.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable
from functools import partial

from authapi.app import AuthAPI, create_app
from authapi.asgi.environ import environ_of
from authapi.asgi.lifespan import Lifespan
from authapi.asgi.routes import Routes
from authapi.asgi.sending import refuse, with_renewal
from authapi.asgi.threads import Threads
from authapi.asgi.types import Application, Receive, Scope, Send
from authapi.embed import PREFIX
from authapi.principal import Session
from authapi.session_check import Found, Refused, SessionCheck
from authapi.settings import Settings, WorkerSettings


class ProtectedASGI:
    """An ASGI application behind `protect_asgi`. `auth` is the application that serves our routes.

    It is an ASGI application itself.
    """

    def __init__(
        self, app: Application, auth: AuthAPI, *, required: bool, prefix: str | None
    ) -> None:
        """Take the application, who knows the sessions, and where our routes are, if anywhere."""
        self._app = app
        self.auth = auth
        self._required = required
        self._check = SessionCheck(auth, required=required)
        self._threads = Threads(auth.core.settings.of(WorkerSettings).threads)
        auth.core.background.add(self._threads)
        self._routes = Routes(auth, self._threads, prefix) if prefix else None
        self._lifespan = Lifespan(app, self.close)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request or a websocket on, with its session where it has one."""
        kind = scope["type"]
        if kind == "lifespan":
            await self._lifespan(scope, receive, send)
        elif kind not in {"http", "websocket"}:
            if self._required:  # SECURITY: nobody knows how to ask it for a session
                raise ValueError(f"a session is required, and {kind!r} is no type that has one")
            await self._app(scope, receive, send)
        elif self._routes and self._routes.take(scope):
            await self._routes(scope, receive, send)
        else:
            await self._pass(scope, receive, send)

    async def _pass(self, scope: Scope, receive: Receive, send: Send) -> None:
        found = await self._threads.run(self._check, environ_of(scope))
        if isinstance(found, Refused):
            await refuse(found, scope, receive, send)
            return
        if found is None:
            await self._app({"user": None, **scope}, receive, send)
            return
        if found.renewal:
            send = with_renewal(send, self._check, found)
        await self._app({**scope, **_known(found, scope)}, receive, send)

    async def is_live(self, session: Session) -> bool:
        """Return whether a session has not ended since, for a websocket that stays open.

        A session ends with its logout, and takes a new id with a new proof of its user, such as a
        changed password. Raises Unavailable.
        """
        return await self._threads.run(partial(self._check.is_live, session=session), {})

    def close(self) -> None:
        """Close the database, when no request is running any more.

        A server that speaks ASGI's lifespan protocol needs no call: its shutdown closes it.
        """
        self.auth.close()


def protect_asgi(
    app: Application,
    settings: Settings,
    *,
    prefix: str | None = None,
    required: bool = False,
    clock: Callable[[], float] = time.time,
) -> ProtectedASGI:
    """Tell an ASGI application, such as FastAPI's, which user sends a request or opens a websocket.

    A live session puts `user`, `authapi.user` and `authapi.session` into the scope, and `user` into
    its `state`, and is renewed. A request without a session is passed on with None as `user`,
    unless the scope has another one, or answered 401 where one is required. A request from another
    site that would change something, or opens a websocket, counts as one without a session, or is
    answered 403.

    With a prefix such as /auth, our own routes are under it. The database is closed at the server's
    shutdown. Raises TypeError for a WSGI application, ValueError for a prefix that is no path,
    StartError.
    """
    _require_asgi(app)
    if prefix is not None and not PREFIX.fullmatch(prefix):
        raise ValueError(f"prefix must be a path such as /auth, not {prefix!r}")
    auth = create_app(settings, clock=clock)
    return ProtectedASGI(app, auth, required=required, prefix=prefix)


def _known(found: Found, scope: Scope) -> dict[str, object]:
    """Return what the scope of a session's request has besides.

    SECURITY: `state` is copied: no user stays in one that a server shares between requests.
    """
    user = found.session.user
    return {**found.known, "user": user, "state": {**scope.get("state", {}), "user": user}}


def _require_asgi(app: Application) -> None:
    if not callable(app):
        raise TypeError(f"{app!r} is not an ASGI application")
    try:
        inspect.signature(app).bind("scope", "receive", "send")
    except ValueError:  # it has no signature
        return
    except TypeError:
        raise TypeError(
            f"{app!r} does not take scope, receive and send, so it is not an ASGI application: "
            "use protect or mount for WSGI"
        ) from None
