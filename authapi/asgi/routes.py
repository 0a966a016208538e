"""Our own routes in an ASGI application: the WSGI application that serves them, under a prefix."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from authapi.app import AuthAPI
from authapi.asgi.environ import path_below, whole_environ_of
from authapi.asgi.sending import answer
from authapi.asgi.threads import Threads
from authapi.asgi.types import Receive, Scope, Send
from authapi.bodies import BODY_LIMIT
from authapi.headers import Lines


class Routes:
    """Answers requests for our own routes, as our own server does.

    The loop answers those that never wait, and refuses logins for which there is no place. The
    others run on threads.
    """

    def __init__(self, auth: AuthAPI, threads: Threads, prefix: str) -> None:
        """Take the application, what runs it, and where its routes are."""
        self._auth, self._threads, self._prefix = auth, threads, prefix

    def take(self, scope: Scope) -> bool:
        """Return whether a request is for one of our routes, or for none under the prefix."""
        return scope["type"] == "http" and path_below(scope, self._prefix) is not None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request for a path under the prefix."""
        body = await _body(receive)
        if body is None:  # the client is gone
            return
        prefix, path = self._prefix, path_below(scope, self._prefix) or ""

        def call(environ: dict[str, Any]) -> tuple[str, Lines, bytes]:
            whole = whole_environ_of(scope, body, prefix=prefix, path=path)
            return _called(self._auth, {**whole, **environ})

        is_quick = self._auth.inline.takes(scope["method"], path)
        run = self._threads.run if is_quick else self._threads.leave
        await answer(send, *await run(call, {}))


def _called(auth: AuthAPI, environ: dict[str, Any]) -> tuple[str, Lines, bytes]:
    """Return the status line, the headers and the body of an answer."""
    started: list[tuple[str, Lines]] = []

    def start_response(
        status: str, headers: Lines, _exc_info: object = None
    ) -> Callable[[bytes], object]:
        started.append((status, headers))
        return _write_nothing

    content = b"".join(auth(environ, start_response))
    return *started[-1], content


async def _body(receive: Receive) -> bytes | None:
    """Return the body of a request, or so much that it is over the limit; None if it is cut off."""
    body = bytearray()
    while len(body) <= BODY_LIMIT:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body += message.get("body", b"")
        if not message.get("more_body", False):
            break
    return bytes(body)


def _write_nothing(_: bytes) -> None:
    """Falcon's applications write through what they return."""
