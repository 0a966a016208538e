"""A session check in process, without a socket, compared with a simple implementation."""

from __future__ import annotations

import sqlite3
import time
import timeit
from collections.abc import Callable, Iterable
from email.utils import formatdate
from pathlib import Path
from typing import Any

import falcon
import jwt
from falcon import testing
from figures import Figure, Goal, ratios
from harness import USER, Bench, BenchError

from authapi import Settings, create_app

CALLS = 2_000  # of each application in a round
KEY = "naive" * 8
Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


def measure(bench: Bench) -> list[Figure]:
    """Measure the CPU microseconds of a session check, ours and the naive one in turn."""
    checks = {"naive": naive(bench.directory / "naive.db"), "ours": ours(bench.directory)}
    times: dict[str, list[float]] = {name: [] for name in checks}
    for turn in range(bench.rounds + 1):
        for name in sorted(checks, reverse=bool(turn % 2)):
            spent = timeit.timeit(checks[name], number=CALLS, timer=time.process_time)
            if turn:  # warm-up first
                times[name].append(1e6 * spent / CALLS)
    return [
        Figure("session check in process", times["ours"], "us"),
        Figure("the same by PyJWT, media and one query", times["naive"], "us"),
        Figure("ours : naive", ratios(times["ours"], times["naive"]), goal=Goal("<=", 60 / 170)),
    ]


def ours(directory: Path) -> Callable[[], None]:
    """Return a session check by the service."""
    settings = Settings(database_url=f"sqlite:///{directory / 'path.db'}", argon2_memory_kib=8)
    app = create_app(settings)
    answer = testing.TestClient(app).simulate_post("/register", json=USER)
    return check(app, f"jwt={answer.cookies['jwt'].value}")


class NaiveUser:
    """The current user, as in the frameworks' tutorials."""

    def __init__(self, path: Path) -> None:
        """Make a database of one user."""
        self._database = sqlite3.connect(path, isolation_level=None)
        self._database.execute("CREATE TABLE users (id INTEGER PRIMARY KEY, username, email, at)")
        row = (USER["username"], USER["email"], time.time())
        self._database.execute("INSERT INTO users VALUES (1, ?, ?, ?)", row)

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Verify the token, read the user, answer."""
        (token,) = req.get_cookie_values("jwt") or [""]
        claims = jwt.decode(token, KEY, algorithms=["HS256"])
        query = "SELECT id, username, email, at FROM users WHERE id = ?"
        user_id, username, email, at = self._database.execute(query, [claims["id"]]).fetchone()
        resp.media = {
            "code": 200,
            "message": "User.",
            "timestamp": formatdate(usegmt=True),
            "user": {
                "id": user_id,
                "username": username,
                "email": email,
                "created_at": formatdate(at, usegmt=True),
                "updated_at": formatdate(at, usegmt=True),
            },
        }


def naive(path: Path) -> Callable[[], None]:
    """Return a session check by plain Falcon, without sessions, headers or revocation."""
    app = falcon.App()
    app.add_route("/user", NaiveUser(path))
    token = jwt.encode({"id": 1, "exp": int(time.time()) + 86_400}, KEY, algorithm="HS256")
    return check(app, f"jwt={token}")


def check(app: Application, cookie: str) -> Callable[[], None]:
    """Return a call of the application with a valid cookie. Raises BenchError if it is refused."""
    environ = testing.create_environ("/user", headers={"Cookie": cookie})
    statuses: list[str] = []
    b"".join(app(dict(environ), lambda status, *_: statuses.append(status)))
    if statuses != ["200 OK"]:
        raise BenchError(f"GET /user was answered {statuses}.")

    def call() -> None:
        b"".join(app(dict(environ), lambda *_: None))

    return call
