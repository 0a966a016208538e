"""Test whether a request for a mail tells if its name is a user's: by its time, or by the next one.

Requests for a password reset with names of users, of nobody, and of disabled users in random order,
on one connection. After each one, a probe asks with a name of nobody. The two-sample
Kolmogorov-Smirnov test compares the times of the requests, and those of the probes. It must not
tell them apart at p < 0.01. As a control, where the request looks the name up it must.
"""

from __future__ import annotations

import argparse
import http.client
import json
import random
import sqlite3
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import falcon
from enumeration import ROOMY, Times, report
from harness import HOST, JSON_HEADERS, USER, Bench, BenchError, Server, ask, reserved_port

from authapi import AuthAPI, Settings, create_app
from authapi.features.password_reset import PasswordResets
from authapi.features.users import UserRepository
from authapi.server import serve

NAMES = 20  # of each kind
KINDS = ("known", "other", "ended")  # names of users, of nobody, and of disabled users
MAIL = {
    **ROOMY,
    "AUTHAPI_MAIL_ADDRESS_LIMIT": "999999/second",
    "AUTHAPI_MAIL_NETWORK_LIMIT": "999999/second",
    "AUTHAPI_MAIL_USER_LIMIT": "999999/second",
    "AUTHAPI_MAIL_FROM": "noreply@example.com",
    "AUTHAPI_PAGES_URL": "http://localhost:3000",
    "AUTHAPI_LOG_LEVEL": "warning",
}


def sample(server: Server, count: int, source: random.Random) -> dict[str, Times]:
    """Return the times of `count` requests of each kind, and of the probe after each, in ms."""
    times: dict[str, Times] = {kind: ([], []) for kind in KINDS}
    left = [kind for kind in KINDS for _ in range(count)]
    source.shuffle(left)
    with closing(http.client.HTTPConnection(HOST, server.port)) as connection:
        for kind in left:
            requests, probes = times[kind]
            requests.append(timed(connection, f"{kind}{source.randrange(NAMES):02}"))
            probes.append(timed(connection, "probe00"))
    return times


def timed(connection: http.client.HTTPConnection, name: str) -> float:
    """Ask for a reset; return the milliseconds until the answer."""
    body = json.dumps({"usernameOrEmail": name})
    began = time.perf_counter()
    connection.request("POST", "/password/reset/request", body, JSON_HEADERS)
    answer = connection.getresponse()
    answer.read()
    took = (time.perf_counter() - began) * 1_000
    if answer.status != 202:
        raise BenchError(f"a request for a mail was answered {answer.status} and not 202")
    return took


def looking_up(settings: Settings) -> AuthAPI:
    """Return the service as if a request looked the name up, and wrote a mail for users alone."""
    app = create_app(settings)
    resets, users = app.core.of(PasswordResets), app.core.of(UserRepository)
    ask_for = resets.request

    def undefended(req: falcon.Request, identifier: str) -> None:
        credential = users.by_identifier(identifier)
        if credential and not credential.disabled:
            ask_for(req, identifier)

    resets.request = undefended  # type: ignore[method-assign]
    return app


@contextmanager
def running(bench: Bench, *, looks_up: bool) -> Iterator[Server]:
    """Run the service with its users, and with the look-up in the request if asked for."""
    name = "looks-up" if looks_up else "as-it-is"
    mails, database = bench.directory / f"{name}-mails", bench.directory / f"{name}.db"
    mails.mkdir()
    program = [__file__, "--serve-with-look-up"] if looks_up else ["-m", "authapi", "serve"]
    with reserved_port() as port:
        variables = {
            **MAIL,
            "AUTHAPI_PORT": str(port),
            "AUTHAPI_DATABASE_URL": f"sqlite:///{database}",
            "AUTHAPI_MAIL_URL": f"file://{mails}",
        }
        with bench.running([sys.executable, *program], port, 401, **variables) as server:
            add_users(server, database)
            yield server


def add_users(server: Server, database: Path) -> None:
    """Register the users, and disable some."""
    for kind in ("known", "ended"):
        for number in range(NAMES):
            name = f"{kind}{number:02}"
            body = {**USER, "username": name, "email": f"{name}@example.com"}
            status, _, answer = ask(server.port, "POST", "/register", body)
            if status != 201:
                raise BenchError(f"POST /register was answered {status}: {answer!r}")
    with closing(sqlite3.connect(database, timeout=10)) as connection, connection:
        connection.execute("UPDATE users SET disabled_at = 1 WHERE username LIKE 'ended%'")


def run(bench: Bench, count: int, seed: int) -> bool:
    """Measure each case and print it; return whether a promise is broken."""
    source, results = random.Random(seed), []
    for looks_up in (False, True):
        with running(bench, looks_up=looks_up) as server:
            sample(server, 20, source)  # warm-up
            times = sample(server, count, source)
        for kind, what in (("other", "nobody"), ("ended", "disabled")):
            for place, of in enumerate(("reset", "probe")):
                case = f"{of}, user and {what}" + (", looked up" if looks_up else "")
                if not looks_up or of == "reset":
                    results.append((case, (times["known"][place], times[kind][place]), looks_up))
    return report(results)


def main() -> None:
    """Measure, print, and exit with status 1 if a promise is broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=400, help="requests of each kind (400)")
    parser.add_argument("--seed", type=int, default=1, help="of the order of the names (1)")
    parser.add_argument("--serve-with-look-up", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve_with_look_up:
        serve(Settings.from_env(), looking_up)
        return
    with tempfile.TemporaryDirectory() as directory:
        failed = run(Bench(1, 1, Path(directory), Settings()), options.count, options.seed)
    sys.exit(failed)


if __name__ == "__main__":
    main()
