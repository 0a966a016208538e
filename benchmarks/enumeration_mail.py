"""Test whether a request for a mail tells if its address is a user's: by its time, or the next one.

There are four such requests: for a password reset, for a login by mail, for another email, and a
registration where addresses must be proved. Each is sent with addresses of users, of nobody, and
of disabled users in random order, on one connection. After each one, a probe asks for a reset of
nobody. Then wrong codes are given for logins and registrations. The two-sample Kolmogorov-Smirnov
test compares the times of the requests, of the probes, and of the codes. It must not tell them
apart at p < 0.01. As a control, where the request looks the address up it must. Passwords are
hashed cheaply, because the time of a hash would hide the others.
"""

from __future__ import annotations

import argparse
import http.client
import itertools
import json
import random
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from enumeration import ROOMY, Times, report
from harness import HOST, JSON_HEADERS, Bench, BenchError, Server, ask, reserved_port

from authapi import AuthAPI, Settings, create_app
from authapi.features.email_change import EmailChanges
from authapi.features.mail_login import MailLogins
from authapi.features.one_time_tokens import MOST_TRIES
from authapi.features.password_reset import PasswordResets
from authapi.features.pending_registrations import PendingRegistrations
from authapi.features.users import UserRepository
from authapi.server import serve

NAMES = 20  # of each kind
KINDS = ("known", "other", "ended")  # names of users, of nobody, and of disabled users
OTHERS = {"other": "nobody", "ended": "disabled"}
BOUND = {"login", "register"}  # routes whose codes count in a browser without a session
ASKER, PASSWORD = "asker00", "a good password"
MAIL = {
    **ROOMY,
    "AUTHAPI_ARGON2_MEMORY_KIB": "8",
    "AUTHAPI_ARGON2_TIME_COST": "1",
    "AUTHAPI_MAIL_ADDRESS_LIMIT": "999999/second",
    "AUTHAPI_MAIL_NETWORK_LIMIT": "999999/second",
    "AUTHAPI_MAIL_USER_LIMIT": "999999/second",
    "AUTHAPI_MAIL_FROM": "noreply@example.com",
    "AUTHAPI_MAIL_LOGIN": "on",
    "AUTHAPI_EMAIL_VERIFICATION": "required",
    "AUTHAPI_SECURITY_NOTICES": "off",
    "AUTHAPI_PAGES_URL": "http://localhost:3000",
    "AUTHAPI_LOG_LEVEL": "warning",
}

_numbers = itertools.count()
ROUTES: dict[str, tuple[str, Callable[[str], dict[str, str]]]] = {
    "reset": ("/password/reset/request", lambda name: {"usernameOrEmail": email_of(name)}),
    "login": ("/login/mail", lambda name: {"email": email_of(name)}),
    "change": ("/user/email", lambda name: {"email": email_of(name)}),
    "register": (
        "/register",
        lambda name: {
            "username": f"new{next(_numbers):06}",
            "email": email_of(name),
            "password": PASSWORD,
        },
    ),
}


def email_of(name: str) -> str:
    """Return the email of a name."""
    return f"{name}@example.com"


def sample(server: Server, route: str, count: int, source: random.Random) -> dict[str, Times]:
    """Return the times of `count` requests of each kind, and of the probe after each, in ms."""
    times: dict[str, Times] = {kind: ([], []) for kind in KINDS}
    left = [kind for kind in KINDS for _ in range(count)]
    source.shuffle(left)
    session = {"Cookie": log_in(server)} if route == "change" else {}
    with closing(http.client.HTTPConnection(HOST, server.port)) as connection:
        for kind in left:
            requests, probes = times[kind]
            name = f"{kind}{source.randrange(NAMES):02}"
            requests.append(asked(connection, route, name, session)[0])
            probes.append(asked(connection, "reset", "probe00", {})[0])
    return times


def sample_codes(
    server: Server, route: str, database: Path, count: int, source: random.Random
) -> dict[str, list[float]]:
    """Return the times of `count` wrong codes of each kind, in ms.

    They are given once all mails are sent, so that those that are to have a code have one.
    """
    times: dict[str, list[float]] = {kind: [] for kind in KINDS}
    path = f"{ROUTES[route][0]}/verify"
    with closing(http.client.HTTPConnection(HOST, server.port)) as connection:
        cookies = [
            (kind, asked(connection, route, f"{kind}{number % NAMES:02}", {})[1])
            for number in range(-(-count // MOST_TRIES))
            for kind in KINDS
        ]
        with closing(sqlite3.connect(database, timeout=10)) as waiting:
            while waiting.execute("SELECT count(*) FROM outbox").fetchone() != (0,):
                time.sleep(0.1)
        left = cookies * MOST_TRIES
        source.shuffle(left)
        for kind, cookie in left:
            headers = {"Cookie": cookie.partition(";")[0]}
            times[kind].append(timed(connection, path, {"code": "wrong"}, headers, 403)[0])
    return times


def log_in(server: Server) -> str:
    """Log in as the user who asks for another email; return the session's cookie."""
    credentials = {"usernameOrEmail": ASKER, "password": PASSWORD}
    status, headers, answer = ask(server.port, "POST", "/login", credentials)
    if status != 200:
        raise BenchError(f"POST /login was answered {status}: {answer!r}")
    return headers["Set-Cookie"].partition(";")[0]


def asked(
    connection: http.client.HTTPConnection, route: str, name: str, session: dict[str, str]
) -> tuple[float, str]:
    """Ask for a mail; return what `timed` does."""
    path, body_of = ROUTES[route]
    return timed(connection, path, body_of(name), session, 202)


def timed(
    connection: http.client.HTTPConnection,
    path: str,
    body: dict[str, str],
    headers: dict[str, str],
    status: int,
) -> tuple[float, str]:
    """Send a request; return the milliseconds until the answer, and the cookie that it sets."""
    text = json.dumps(body)
    began = time.perf_counter()
    connection.request("POST", path, text, JSON_HEADERS | headers)
    answer = connection.getresponse()
    answer.read()
    took = (time.perf_counter() - began) * 1_000
    if answer.status != status:
        raise BenchError(f"POST {path} was answered {answer.status} and not {status}")
    return took, answer.getheader("Set-Cookie", "")


def looking_up(settings: Settings) -> AuthAPI:
    """Return the service as if a request looked the address up, and wrote a mail for some alone."""
    app = create_app(settings)
    core, users = app.core, app.core.of(UserRepository)

    def undefend(service: Any, name: str, *, mails: bool) -> None:  # noqa: ANN401 - a service
        original = getattr(service, name)

        def undefended(*given: Any) -> None:  # noqa: ANN401 - what the service takes
            email = next(getattr(each, "email", each) for each in given if _has_email(each))
            credential = users.by_identifier(email)
            if bool(credential and not credential.disabled) is mails:
                original(*given)

        setattr(service, name, undefended)

    undefend(core.of(PasswordResets), "request", mails=True)
    undefend(core.of(MailLogins), "request", mails=True)
    undefend(core.of(EmailChanges), "request", mails=False)
    undefend(core.of(PendingRegistrations), "begin", mails=False)
    return app


def _has_email(given: object) -> bool:
    return isinstance(given, str) or hasattr(given, "email")


@contextmanager
def running(bench: Bench, *, looks_up: bool) -> Iterator[tuple[Server, Path]]:
    """Run the service with its users, and with the look-up in the request if asked for.

    Gives its database too.
    """
    name = "looks-up" if looks_up else "as-it-is"
    mails, database = bench.directory / f"{name}-mails", bench.directory / f"{name}.db"
    mails.mkdir()
    add_users(f"sqlite:///{database}")
    program = [__file__, "--serve-with-look-up"] if looks_up else ["-m", "authapi", "serve"]
    with reserved_port() as port:
        variables = {
            **MAIL,
            "AUTHAPI_PORT": str(port),
            "AUTHAPI_DATABASE_URL": f"sqlite:///{database}",
            "AUTHAPI_MAIL_URL": f"file://{mails}",
        }
        with bench.running([sys.executable, *program], port, 401, **variables) as server:
            yield server, database


def add_users(url: str) -> None:
    """Add the users, whose addresses are proved, and disable some."""
    with closing(
        create_app(Settings(database_url=url, argon2_memory_kib=8, argon2_time_cost=1))
    ) as app:
        core, password_hash = app.core, app.core.passwords.hash(PASSWORD)
        names = [f"{kind}{number:02}" for kind in ("known", "ended") for number in range(NAMES)]
        commands = core.database.statements("commands")
        with core.database.transaction():
            for name in [*names, ASKER]:
                user = core.of(UserRepository).insert(name, email_of(name), password_hash, 1).user
                if name.startswith("ended"):
                    commands.set_disabled(id=user.id, disabled_at=1)


def run(bench: Bench, routes: list[str], count: int, seed: int) -> bool:
    """Measure each case and print it; return whether a promise is broken."""
    source, results = random.Random(seed), []
    for looks_up in (False, True):
        with running(bench, looks_up=looks_up) as (server, database):
            for route in routes:
                sample(server, route, 20, source)  # warm-up
                times = sample(server, route, count, source)
                results += cases(route, times, looks_up=looks_up)
                if route in BOUND and not looks_up:
                    codes = sample_codes(server, route, database, count, source)
                    for kind, what in OTHERS.items():
                        pair = codes["known"], codes[kind]
                        results.append((f"wrong code of {route}: user and {what}", pair, False))
    return report(results)


def cases(route: str, times: dict[str, Times], *, looks_up: bool) -> list[tuple[str, Times, bool]]:
    """Return the comparisons of a route: what each is, the times, and whether they must differ."""
    found = []
    for kind, what in OTHERS.items():
        for place, of in enumerate((route, f"probe after {route}")):
            case = f"{of}: user and {what}" + (", looked up" if looks_up else "")
            if not looks_up or place == 0:
                found.append((case, (times["known"][place], times[kind][place]), looks_up))
    return found


def main() -> None:
    """Measure, print, and exit with status 1 if a promise is broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=400, help="requests of each kind (400)")
    parser.add_argument("--seed", type=int, default=1, help="of the order of the names (1)")
    parser.add_argument("--route", choices=[*ROUTES], help="one of the four (all)")
    parser.add_argument("--serve-with-look-up", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve_with_look_up:
        serve(Settings.from_env(), looking_up)
        return
    routes = [options.route] if options.route else [*ROUTES]
    with tempfile.TemporaryDirectory() as directory:
        bench = Bench(1, 1, Path(directory), Settings())
        failed = run(bench, routes, options.count, options.seed)
    sys.exit(failed)


if __name__ == "__main__":
    main()
