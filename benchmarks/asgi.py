"""What a request under `protect_asgi` costs in process, on SQLite and without a server."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import MutableMapping
from typing import Any

from falcon import testing

from authapi import ProtectedASGI, Settings, protect_asgi

ROUNDS, REQUESTS = 7, 3_000
USER = {"username": "anna", "email": "anna@example.com", "password": "correct horse"}
FIELDS = {
    "host": "127.0.0.1:8000",
    "user-agent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36",
    "accept": "application/json",
    "accept-encoding": "gzip, br",
    "accept-language": "en",
    "sec-fetch-site": "same-origin",
}

Message = MutableMapping[str, Any]


async def page(scope: Message, _receive: object, send: Any) -> None:  # noqa: ANN401 - ASGI's
    """Answer with the id of the user."""
    body = b'{"id": %d}' % scope["user"].id
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


async def receive() -> Message:
    """Return an empty body."""
    return {"type": "http.request", "body": b"", "more_body": False}


async def send(message: Message) -> None:
    """Require that the request succeeds."""
    assert message.get("status", 200) == 200


async def microseconds(app: ProtectedASGI, path: str, token: str) -> float:
    """Return what a request costs in the best round."""
    fields = [(name.encode(), value.encode()) for name, value in FIELDS.items()]
    scope = {
        "type": "http",
        "method": "GET",
        "path": path,
        "headers": [*fields, (b"cookie", f"jwt={token}".encode())],
        "client": ("127.0.0.1", 4_711),
    }
    best = float("inf")
    for _ in range(ROUNDS):
        begun = time.perf_counter()
        for _ in range(REQUESTS):
            await app({**scope}, receive, send)
        best = min(best, (time.perf_counter() - begun) / REQUESTS)
    return best * 1e6


def main() -> None:
    """Print the cost of a page of the application, and of our own `GET /user`."""
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(database_url=f"sqlite:///{folder}/authapi.db", argon2_memory_kib=8)
        app = protect_asgi(page, settings, prefix="/auth")
        answer = testing.TestClient(app.auth).simulate_post("/register", json=USER)
        for path in ("/user", "/auth/user"):
            cost = asyncio.run(microseconds(app, path, answer.cookies["jwt"].value))
            print(f"GET {path}: {cost:.1f} µs")
        app.close()


if __name__ == "__main__":
    main()
