"""Measure whether a flood from one network keeps others out, by session checks and logins.

An attacker holds 400 connections from one address and floods the service in each way of
`attack.py`, then in all ways at once. Meanwhile clients at another address check a session 100
times a second, each tenth time on a new connection. A client at a third address logs in twice a
second, alternating between a known browser and a new one. Each address of 127.0.0.0/8 counts as a
network.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from queue import SimpleQueue

import attack
from harness import HOST, LOGIN, USER, Bench, BenchError, Server, reserved_port

from authapi.settings import Settings

CONNECTIONS = 400
CHECK_EACH, LOGIN_EACH = 0.01, 0.5  # seconds
CHECKERS = 8  # clients that check the session, so that a slow check does not delay the next
NEW_EACH = 10  # every how many checks open a new connection
PATIENCE = 5.0  # seconds that a client waits for an answer
LEAD = 2.0  # seconds of an attack before anything counts
P99 = 50  # milliseconds that a session check may take
WITHIN, SHARE = 2.0, 0.9  # seconds in which this share of the logins must succeed

# As if the attacker had unlimited addresses, so that no budget stops them.
NO_BUDGETS = {
    "AUTHAPI_LOGIN_NETWORK_LIMIT": "100000/second",
    "AUTHAPI_REGISTRATION_LIMIT": "100000/second",
}
ALL = list(attack.KINDS)
SERVICES: dict[str, tuple[dict[str, str], dict[str, list[str]]]] = {
    "default limits": ({}, {"calm": [], **{kind: [kind] for kind in ALL}, "all at once": ALL}),
    "no budgets": (
        NO_BUDGETS,
        {"bad logins": ["bad logins"], "registrations": ["registrations"], "all at once": ALL},
    ),
}
COOKIE = re.compile(rb"(?i)^set-cookie: ((\w+)=[^;\r]+)", re.MULTILINE)


@dataclass
class Outcome:
    """The results of one kind of request: seconds since each was due, and failures by name."""

    seconds: list[float] = field(default_factory=list)
    failures: dict[str, int] = field(default_factory=dict)

    def fail(self, name: str) -> None:
        """Count a request that did not get 200."""
        self.failures[name] = self.failures.get(name, 0) + 1

    def percentile(self, share: float) -> float:
        """Return a percentile in milliseconds; a failure counts as infinite."""
        times = sorted(self.seconds) + [math.inf] * sum(self.failures.values())
        return times[math.ceil(share * len(times)) - 1] * 1_000 if times else math.nan

    @property
    def count(self) -> int:
        """Return how many there were."""
        return len(self.seconds) + sum(self.failures.values())

    def within(self, seconds: float) -> str:
        """Return how many got 200 within some seconds, and how many there were."""
        good = sum(took <= seconds for took in self.seconds)
        return f"{good}/{self.count}"


@dataclass
class Client:
    """A client with its own address and cookies."""

    port: int
    source: str
    name: str
    cookies: dict[str, str] = field(default_factory=dict)
    kept: socket.socket | None = None

    def connect(self) -> socket.socket:
        """Open a new connection. Raises OSError."""
        return socket.create_connection(
            (HOST, self.port), timeout=PATIENCE, source_address=(self.source, 0)
        )

    def check(self, *, anew: bool) -> str:
        """Check the session; return the status. Raises OSError."""
        request = attack.get(b"/verify", f"Cookie: {'; '.join(self.cookies.values())}\r\n".encode())
        if anew:
            with self.connect() as connection:
                return exchange(connection, request)[9:12].decode()
        try:
            self.kept = self.kept or self.connect()
            return exchange(self.kept, request)[9:12].decode()
        except OSError:
            self.kept = None
            raise

    def log_in(self, *, known: bool) -> str:
        """Log in with a known or a new browser; return the status. Raises OSError."""
        cookies = f"Cookie: {self.cookies['device']}\r\n" if known else ""
        body = {**LOGIN, "usernameOrEmail": self.name}
        request = attack.post(b"/login", json.dumps(body).encode())
        request = request.replace(b"\r\n", b"\r\n" + cookies.encode(), 1)
        with self.connect() as connection:
            answer = exchange(connection, request)
        if known and answer[9:12] == b"200":
            self.keep(answer)
        return answer[9:12].decode()

    def keep(self, answer: bytes) -> None:
        """Keep the cookies of an answer."""
        self.cookies |= {name.decode(): pair.decode() for pair, name in COOKIE.findall(answer)}


def exchange(connection: socket.socket, request: bytes) -> bytes:
    """Send a request and read the whole answer. Raises OSError."""
    connection.sendall(request)
    received = b""
    while b"\r\n\r\n" not in received or len(received) < _length(received):
        data = connection.recv(65_536)
        if not data:
            raise ConnectionError
        received += data
    return received


def _length(received: bytes) -> int:
    head, _, _ = received.partition(b"\r\n\r\n")
    found = re.search(rb"(?i)content-length: *(\d+)", head)
    return len(head) + 4 + int(found[1] if found else 0)


@dataclass
class Visitors:
    """Two clients: one checks its session, the other logs in."""

    checkers: list[Client]  # with one session and a connection each
    user: Client
    checks: Outcome = field(default_factory=Outcome)
    known: Outcome = field(default_factory=Outcome)
    new: Outcome = field(default_factory=Outcome)

    def run(self, seconds: float) -> None:
        """Send requests for some seconds."""
        with ThreadPoolExecutor(32) as pool:
            checking = threading.Thread(target=self._check, args=[seconds])
            checking.start()
            for number, due in enumerate(times(LOGIN_EACH, seconds)):
                pool.submit(self._log_in, due, known=number % 2 == 0)
            checking.join()

    def _check(self, seconds: float) -> None:
        idle: SimpleQueue[Client] = SimpleQueue()
        for checker in self.checkers:
            idle.put(checker)

        def check(due: float, *, anew: bool) -> None:
            checker = idle.get()
            record(self.checks, due, partial(checker.check, anew=anew))
            idle.put(checker)

        with ThreadPoolExecutor(len(self.checkers)) as pool:
            for number, due in enumerate(times(CHECK_EACH, seconds)):
                pool.submit(check, due, anew=number % NEW_EACH == 0)

    def _log_in(self, due: float, *, known: bool) -> None:
        outcome = self.known if known else self.new
        record(outcome, due, partial(self.user.log_in, known=known))


def times(interval: float, seconds: float) -> Iterator[float]:
    """Yield the times at which something is due, when they come; skip those already over."""
    began = time.monotonic()
    for number in range(round(seconds / interval)):
        due = began + number * interval
        time.sleep(max(0, due - time.monotonic()))
        yield due


def record(outcome: Outcome, due: float, request: Callable[[], str]) -> None:
    """Make a request, and record how long it took since it was due."""
    try:
        status = request()
    except OSError as error:
        outcome.fail(type(error).__name__)
        return
    if status == "200":
        outcome.seconds.append(time.monotonic() - due)
    else:
        outcome.fail(status)


@contextmanager
def attacking(port: int, kinds: list[str], source: str, seconds: float) -> Iterator[attack.Outcome]:
    """Attack while the block runs; then the Outcome has its result."""
    outcome = attack.Outcome()
    if not kinds:
        yield outcome
        return
    options = {"--port": port, "--source": source, "--connections": CONNECTIONS}
    options["--seconds"] = round(seconds)
    words = [str(word) for pair in options.items() for word in pair]
    for kind in kinds:
        words += ["--kind", kind]
    command = [sys.executable, attack.__file__, *words]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    try:
        yield outcome
        text, _ = process.communicate()
        vars(outcome).update(json.loads(text))
    finally:
        process.kill()
        process.wait()


def newcomer(server: Server, source: str, name: str) -> Client:
    """Return a client that has just registered."""
    client = Client(server.port, source, name)
    user = {**USER, "username": name, "email": f"{name}@example.com"}
    with client.connect() as connection:
        answer = exchange(connection, attack.post(b"/register", json.dumps(user).encode()))
    if answer[9:12] != b"201":
        raise BenchError(f"POST /register was answered {answer!r}")
    client.keep(answer)
    return client


def cpu_seconds(pid: int) -> float:
    """Return the CPU seconds of a process (clock_getcpuclockid(3) of Linux)."""
    return time.clock_gettime(~pid << 3 | 2)


@dataclass(frozen=True)
class Row:
    """The results of one attack."""

    name: str
    visitors: Visitors
    attack: attack.Outcome
    seconds: float
    cpu: float  # of the service, in CPUs

    @property
    def logins(self) -> float:
        """Return the share of logins that succeeded in time."""
        good = sum(
            took <= WITHIN
            for one in (self.visitors.known, self.visitors.new)
            for took in one.seconds
        )
        return good / max(1, self.visitors.known.count + self.visitors.new.count)

    def misses(self) -> list[str]:
        """Return the goals that are missed."""
        missed = []
        if not self.visitors.checks.percentile(0.99) <= P99:
            missed.append("session checks")
        if self.logins < SHARE:
            missed.append("logins")
        return missed

    def __str__(self) -> str:
        """Return a row of the table."""
        checks = self.visitors.checks
        times = " | ".join(f"{checks.percentile(share):.1f}" for share in (0.5, 0.99, 1))
        did = ", ".join(f"{count} x {status}" for status, count in self.attack.answered.items())
        return (
            f"| {self.name} | {times} | {sum(checks.failures.values())} "
            f"| {self.visitors.known.within(WITHIN)} | {self.visitors.new.within(WITHIN)} "
            f"| {self.cpu:.2f} | {self.attack.cpu / self.seconds:.2f} "
            f"| {self.attack.opened} | {self.attack.sent >> 10} | {did} "
            f"| {', '.join(self.misses()) or 'met'} |"
        )


def flood(server: Server, name: str, kinds: list[str], number: int, seconds: int) -> Row:
    """Attack from one address, with two clients at others."""
    checker = newcomer(server, f"127.0.1.{number}", f"checker{number}")
    visitors = Visitors(
        [replace(checker, kept=None) for _ in range(CHECKERS)],
        newcomer(server, f"127.0.2.{number}", f"visitor{number}"),
    )
    with attacking(server.port, kinds, f"127.0.3.{number}", LEAD + seconds) as outcome:
        time.sleep(LEAD)
        began = cpu_seconds(server.pid)
        visitors.run(seconds)
        used = (cpu_seconds(server.pid) - began) / seconds
    time.sleep(1)
    return Row(name, visitors, outcome, LEAD + seconds, used)


def run(bench: Bench, only: str, checkout: Path) -> list[Row]:
    """Run all attacks and print the results of each."""
    rows = []
    for title, (variables, attacks) in SERVICES.items():
        chosen = {name: kinds for name, kinds in attacks.items() if only in name}
        folder = bench.directory / title.replace(" ", "-")
        folder.mkdir()
        with reserved_port() as port:
            command = [sys.executable, str(checkout / "run.py")]
            settings = variables | {
                "AUTHAPI_PORT": str(port),
                "AUTHAPI_DATABASE_URL": f"sqlite:///{folder}/authapi.db",
                "PYTHONPATH": str(checkout),
            }
            with bench.running(command, port, 401, **settings) as server:
                for number, (name, kinds) in enumerate(chosen.items(), start=1):
                    rows.append(flood(server, f"{name}, {title}", kinds, number, bench.seconds))
                    print(rows[-1], flush=True)
    return rows


HEADER = """\
| attack | checks p50, ms | p99 | longest | failed | logins in, known | new | service, CPUs \
| attack, CPUs | connections | KiB sent | answers | goals missed |
|---|---|---|---|---|---|---|---|---|---|---|---|---|"""


def main() -> None:
    """Measure and print. A missed goal is a result, not a failure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=10, help="of each attack (10)")
    parser.add_argument("--only", default="", help="a part of an attack's name (all)")
    parser.add_argument(
        "--checkout", type=Path, default=Path(__file__).parents[1], help="of the service (this one)"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        bench = Bench(1, options.seconds, Path(directory), Settings())
        print(HEADER, flush=True)
        run(bench, options.only, options.checkout.resolve())


if __name__ == "__main__":
    main()
