"""Test whether a request for a mail tells if its name is a user's: by its time, or by the next one.

Requests for a password reset, and to log in by mail, with names of users, of nobody, and of
disabled users in random order, on one connection. After each one, a probe asks with a name of
nobody. Then wrong codes are given for logins by mail. The two-sample Kolmogorov-Smirnov test
compares the times of the requests, of the probes, and of the codes. It must not tell them apart at
p < 0.01. As a control, where the request looks the name up it must.
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
from authapi.features.mail_login import MailLogins
from authapi.features.one_time_tokens import MOST_TRIES
from authapi.features.password_reset import PasswordResets
from authapi.features.users import UserRepository
from authapi.server import serve

NAMES = 20  # of each kind
RESET, LOGIN = "/password/reset/request", "/login/mail"
KINDS = ("known", "other", "ended")  # names of users, of nobody, and of disabled users
MAIL = {
    **ROOMY,
    "AUTHAPI_MAIL_ADDRESS_LIMIT": "999999/second",
    "AUTHAPI_MAIL_NETWORK_LIMIT": "999999/second",
    "AUTHAPI_MAIL_USER_LIMIT": "999999/second",
    "AUTHAPI_MAIL_LOGIN": "on",
    "AUTHAPI_MAIL_FROM": "noreply@example.com",
    "AUTHAPI_PAGES_URL": "http://localhost:3000",
    "AUTHAPI_LOG_LEVEL": "warning",
}


def sample(server: Server, route: str, count: int, source: random.Random) -> dict[str, Times]:
    """Return the times of `count` requests of each kind, and of the probe after each, in ms."""
    times: dict[str, Times] = {kind: ([], []) for kind in KINDS}
    left = [kind for kind in KINDS for _ in range(count)]
    source.shuffle(left)
    with closing(http.client.HTTPConnection(HOST, server.port)) as connection:
        for kind in left:
            requests, probes = times[kind]
            name = f"{kind}{source.randrange(NAMES):02}"
            for one, found in ((name, requests), ("probe00", probes)):
                found.append(timed(connection, route, asked(route, one), 202)[0])
    return times


def sample_codes(
    server: Server, database: Path, count: int, source: random.Random
) -> dict[str, list[float]]:
    """Return the times of `count` wrong codes of logins by mail of each kind, in ms.

    They are given once the mails of users are sent, so that these logins have a code.
    """
    times: dict[str, list[float]] = {kind: [] for kind in KINDS}
    with closing(http.client.HTTPConnection(HOST, server.port)) as connection:
        cookies = [
            (kind, timed(connection, LOGIN, asked(LOGIN, f"{kind}{number % NAMES:02}"), 202)[1])
            for number in range(-(-count // MOST_TRIES))
            for kind in KINDS
        ]
        with closing(sqlite3.connect(database, timeout=10)) as waiting:
            while waiting.execute("SELECT count(*) FROM outbox").fetchone() != (0,):
                time.sleep(0.1)
        left = cookies * MOST_TRIES
        source.shuffle(left)
        for kind, cookie in left:
            body = {"code": "wrong"}
            took = timed(connection, f"{LOGIN}/verify", body, 403, Cookie=cookie.split(";")[0])[0]
            times[kind].append(took)
    return times


def asked(route: str, name: str) -> dict[str, str]:
    """Return the body of a request for a mail."""
    return {"email": f"{name}@example.com"} if route == LOGIN else {"usernameOrEmail": name}


def timed(
    connection: http.client.HTTPConnection,
    route: str,
    body: dict[str, str],
    status: int,
    **headers: str,
) -> tuple[float, str]:
    """Send a request; return the milliseconds until the answer, and the cookie that it sets."""
    text = json.dumps(body)
    began = time.perf_counter()
    connection.request("POST", route, text, headers | JSON_HEADERS)
    answer = connection.getresponse()
    answer.read()
    took = (time.perf_counter() - began) * 1_000
    if answer.status != status:
        raise BenchError(f"POST {route} was answered {answer.status} and not {status}")
    return took, answer.getheader("Set-Cookie", "")


def looking_up(settings: Settings) -> AuthAPI:
    """Return the service as if a request looked the name up, and wrote a mail for users alone."""
    app = create_app(settings)
    resets, logins = app.core.of(PasswordResets), app.core.of(MailLogins)
    users, ask_for, ask_to_log_in = app.core.of(UserRepository), resets.request, logins.request

    def is_users(identifier: str) -> bool:
        credential = users.by_identifier(identifier)
        return credential is not None and not credential.disabled

    def reset(req: falcon.Request, identifier: str) -> None:
        if is_users(identifier):
            ask_for(req, identifier)

    def log_in(req: falcon.Request, resp: falcon.Response, email: str) -> None:
        if is_users(email):
            ask_to_log_in(req, resp, email)

    resets.request = reset  # type: ignore[method-assign]
    logins.request = log_in  # type: ignore[method-assign]
    return app


@contextmanager
def running(bench: Bench, *, looks_up: bool) -> Iterator[tuple[Server, Path]]:
    """Run the service with its users, and with the look-up in the request if asked for.

    Gives its database too.
    """
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
            yield server, database


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
        with running(bench, looks_up=looks_up) as (server, database):
            for route in (RESET, LOGIN):
                sample(server, route, 20, source)  # warm-up
                times = sample(server, route, count, source)
                for kind in ("other", "ended"):
                    for place, of in enumerate((route, f"probe after {route}")):
                        if not looks_up or of == route:
                            pair = times["known"][place], times[kind][place]
                            results.append((case_of(of, kind, looks_up=looks_up), pair, looks_up))
            if not looks_up:
                codes = sample_codes(server, database, count, source)
                for kind in ("other", "ended"):
                    case = case_of("a wrong code", kind, looks_up=False)
                    results.append((case, (codes["known"], codes[kind]), False))
    return report(results)


def case_of(what: str, kind: str, *, looks_up: bool) -> str:
    """Return how a case is called."""
    other = {"other": "nobody", "ended": "disabled"}[kind]
    return f"{what}, user and {other}" + (", looked up" if looks_up else "")


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
