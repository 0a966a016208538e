"""What is sent to an ASGI server in place of an application's messages, or into them."""

from __future__ import annotations

from collections.abc import Iterable

from authapi.asgi.types import Message, Receive, Scope, Send
from authapi.headers import Lines
from authapi.session_check import Found, Refused, SessionCheck

_STARTS = frozenset({"http.response.start", "websocket.accept", "websocket.http.response.start"})
_POLICY_VIOLATION = 1008  # RFC 6455, 7.4.1


def with_renewal(send: Send, check: SessionCheck, found: Found) -> Send:
    """Return a `send` that gives the token of a renewed session with the start of the answer.

    A websocket's answer is that to its handshake.
    """

    async def sending(message: Message) -> None:
        if message["type"] in _STARTS:
            headers = list(message.get("headers", ()))
            lines = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers]
            renewal = _encoded(check.renewal_beside(found, lines))
            message = {**message, "headers": [*headers, *renewal]}
        await send(message)

    return sending


async def refuse(refused: Refused, scope: Scope, receive: Receive, send: Send) -> None:
    """Send a refusal. A server that cannot send one to a websocket's handshake answers 403."""
    whole = refused.status, refused.headers, refused.body
    if scope["type"] == "http":
        await answer(send, *whole)
        return
    await receive()  # websocket.connect
    if "websocket.http.response" in (scope.get("extensions") or {}):
        await answer(send, *whole, kind="websocket.http.response")
    else:
        await send({"type": "websocket.close", "code": _POLICY_VIOLATION})


async def answer(
    send: Send, status: str, headers: Lines, body: bytes, *, kind: str = "http.response"
) -> None:
    """Send a whole answer, with a status line and headers as those of WSGI."""
    await send({"type": f"{kind}.start", "status": int(status[:3]), "headers": _encoded(headers)})
    await send({"type": f"{kind}.body", "body": body})


def _encoded(headers: Iterable[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    return [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]
