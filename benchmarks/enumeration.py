"""Test whether the time of a failed login tells if its user exists.

Logins with wrong passwords, of known and unknown names in random order, on one connection. The
two-sample Kolmogorov-Smirnov test compares the two distributions of times. It must not tell them
apart at p < 0.01: in calm, with the hash lane busy, and over the limit. As a control, with the
decoy off it must tell them apart.
"""

from __future__ import annotations

import argparse
import http.client
import json
import math
import random
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from harness import HOST, JSON_HEADERS, USER, Bench, BenchError, Server, ask, reserved_port

from authapi import AuthAPI, Settings, create_app
from authapi.passwords import Verdict
from authapi.server import serve

SIGNIFICANCE = 0.01
NAMES = 20  # logins of each kind
ROOMY = {
    "AUTHAPI_LOGIN_ACCOUNT_LIMIT": "999999/second",
    "AUTHAPI_LOGIN_NETWORK_LIMIT": "999999/second",
    "AUTHAPI_LOGIN_LOCKOUT": "1000000",
    "AUTHAPI_REGISTRATION_LIMIT": "999999/second",
}
TIGHT = {**ROOMY, "AUTHAPI_LOGIN_LOCKOUT": "1"}

Times = tuple[list[float], list[float]]  # milliseconds, of known names and of unknown ones


def kolmogorov_smirnov(one: list[float], other: list[float]) -> tuple[float, float]:
    """Return the two-sample statistic D, and p by its asymptotic distribution (Stephens 1970)."""
    up, down = 1 / len(one), -1 / len(other)
    values = sorted([(value, up) for value in one] + [(value, down) for value in other])
    distance = largest = 0.0
    for index, (value, step) in enumerate(values):
        distance += step
        if index + 1 == len(values) or values[index + 1][0] != value:
            largest = max(largest, abs(distance))
    size = math.sqrt(len(one) * len(other) / (len(one) + len(other)))
    scaled = (size + 0.12 + 0.11 / size) * largest
    terms = ((-1) ** (k - 1) * math.exp(-2 * k * k * scaled * scaled) for k in range(1, 101))
    return largest, min(1.0, max(0.0, 2 * sum(terms))) if scaled > 0.2 else 1.0


def name_of(number: int, *, known: bool) -> str:
    """Return a name. All have one length, so that they differ only in being known."""
    return f"{'known' if known else 'other'}{number:02}"


def sample(server: Server, count: int, wanted: int, source: random.Random) -> Times:
    """Return the times of `count` failed logins of each kind that get an expected status."""
    times: Times = ([], [])
    with closing(http.client.HTTPConnection(HOST, server.port)) as connection:
        while min(map(len, times)) < count:
            known = source.random() < 0.5
            taken = times[0 if known else 1]
            name = name_of(source.randrange(NAMES), known=known)
            began = time.perf_counter()
            status = log_in(connection, name)
            took = (time.perf_counter() - began) * 1_000
            if status == wanted and len(taken) < count:
                taken.append(took)
            elif status not in {wanted, 503}:
                raise BenchError(f"a login was answered {status} and not {wanted}")
    return times


def log_in(connection: http.client.HTTPConnection, name: str) -> int:
    """Log in with a wrong password; return the status."""
    body = json.dumps({"usernameOrEmail": name, "password": "wrong password"})
    connection.request("POST", "/login", body, JSON_HEADERS)
    answer = connection.getresponse()
    answer.read()
    return answer.status


@contextmanager
def busy(server: Server, clients: int = 2) -> Iterator[None]:
    """Keep the hash lane busy with the logins of other clients."""
    over = threading.Event()

    def work() -> None:
        with closing(http.client.HTTPConnection(HOST, server.port)) as connection:
            while not over.is_set():
                log_in(connection, "busy")

    threads = [threading.Thread(target=work) for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()


def without_decoy(settings: Settings) -> AuthAPI:
    """Return the service as if it refused unknown names without a hash."""
    app = create_app(settings)
    verify = app.core.passwords.verify

    def undefended(stored: str | None, password: str, *, rehash: bool = True) -> Verdict:
        return Verdict(correct=False) if stored is None else verify(stored, password, rehash=rehash)

    app.core.passwords.verify = undefended  # type: ignore[method-assign]
    return app


@contextmanager
def running(bench: Bench, name: str, **variables: str) -> Iterator[Server]:
    """Run the service with its known users, without the decoy if the case says so."""
    if name == "decoy off":
        command = [sys.executable, __file__, "--serve-without-decoy"]
    else:
        command = [sys.executable, "-m", "authapi", "serve"]
    url = f"sqlite:///{bench.directory / name.replace(' ', '-')}.db"
    with reserved_port() as port:
        variables |= {"AUTHAPI_PORT": str(port), "AUTHAPI_DATABASE_URL": url}
        with bench.running(command, port, 401, **variables) as server:
            register_all(server)
            yield server


def register_all(server: Server) -> None:
    """Register the known users."""
    for number in range(NAMES):
        name = name_of(number, known=True)
        body = {**USER, "username": name, "email": f"{name}@example.com"}
        status, _, answer = ask(server.port, "POST", "/register", body)
        if status != 201:
            raise BenchError(f"POST /register was answered {status}: {answer!r}")


def main() -> None:
    """Measure, print, and exit with status 1 if a promise is broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=500, help="logins of each kind (500)")
    parser.add_argument("--seed", type=int, default=1, help="of the order of the names (1)")
    parser.add_argument("--serve-without-decoy", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve_without_decoy:
        serve(Settings.from_env(), without_decoy)
        return
    with tempfile.TemporaryDirectory() as directory:
        failed = run(Bench(1, 1, Path(directory), Settings()), options.count, options.seed)
    sys.exit(failed)


def run(bench: Bench, count: int, seed: int) -> bool:
    """Measure each case and print it; return whether a promise is broken."""
    source = random.Random(seed)
    results: list[tuple[str, Times, bool]] = []
    with running(bench, "calm", **ROOMY) as server:
        sample(server, 20, 401, source)  # warm-up
        results.append(("calm", sample(server, count, 401, source), False))
        with busy(server):
            results.append(("lane busy", sample(server, count, 401, source), False))
    with running(bench, "refused", **TIGHT) as server:
        for number in range(NAMES):
            for known in (True, False):
                with closing(http.client.HTTPConnection(HOST, server.port)) as connection:
                    log_in(connection, name_of(number, known=known))
        sample(server, 20, 429, source)
        results.append(("over the limit", sample(server, count, 429, source), False))
    with running(bench, "decoy off", **ROOMY) as server:
        sample(server, 20, 401, source)
        results.append(("decoy off", sample(server, count, 401, source), True))
    return report(results)


def report(results: list[tuple[str, Times, bool]]) -> bool:
    """Print a row for each case; return whether one is wrong."""
    print("| case | logins | known, ms | unknown, ms | D | p | told apart |")
    print("|---|---|---|---|---|---|---|")
    failed = False
    for name, (known, unknown), expected in results:
        distance, probability = kolmogorov_smirnov(known, unknown)
        found = probability < SIGNIFICANCE
        failed |= found != expected
        medians = f"{statistics.median(known):.2f} | {statistics.median(unknown):.2f}"
        verdict = ("yes" if found else "no") + ("" if found == expected else ": MISSED")
        count = len(known) + len(unknown)
        print(f"| {name} | {count} | {medians} | {distance:.3f} | {probability:.3g} | {verdict} |")
    return failed


if __name__ == "__main__":
    main()
