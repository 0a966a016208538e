"""Measures the service on this machine and compares it with the goals: see README.md.

Needs wrk, and authapi installed. Everything runs on 127.0.0.1 and in a temporary directory.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import platform
import re
import shlex
import shutil
import signal
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import metadata
from itertools import chain
from pathlib import Path

from argon2 import PasswordHasher

from authapi import server as service
from authapi.passwords import HASH_LENGTH, SALT_LENGTH
from authapi.settings import PREFIX, Settings
from authapi.wire import BODY_LIMIT

HOST = "127.0.0.1"
CONNECTIONS = (1, 8, 32)  # of a session check
START_DEADLINE = 30  # seconds until a first answer
STOP_DEADLINE = 15  # seconds from SIGTERM to the end
POLL_INTERVAL = 0.0005  # seconds between two attempts to connect

USER = {"username": "crispengari", "email": "crispengari@gmail.com", "password": "crispengari"}
LOGIN = {"usernameOrEmail": USER["username"], "password": USER["password"]}
JSON_HEADERS = {"Content-Type": "application/json"}

LOGIN_SCRIPT = """\
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.body = [[%s]]
succeeded, overloaded, failed = 0, 0, 0

function setup(thread)
  only_thread = thread
end

function response(status)
  if status == 200 then
    succeeded = succeeded + 1
  elseif status == 503 then
    overloaded = overloaded + 1
  else
    failed = failed + 1
  end
end

function done()
  for _, name in ipairs({"succeeded", "overloaded", "failed"}) do
    print(name .. ": " .. only_thread:get(name))
  end
end
"""

PLACEHOLDERS = (
    (re.escape(sys.executable), "python"),
    (r"jwt=[\w.-]+", "jwt=TOKEN"),
    (rf"{HOST}:\d+", f"{HOST}:PORT"),
    (r"_PORT=\d+", "_PORT=PORT"),
    (r"bare\.py \d+", "bare.py PORT"),
)


class BenchError(Exception):
    """A measurement that means nothing. Its text is one sentence that says why."""


@dataclass(frozen=True)
class Goal:
    """A bound for the median of a figure."""

    at_least: bool
    bound: float

    def __str__(self) -> str:
        """As in the issue: `>= 0.80`."""
        return f"{'>=' if self.at_least else '<='} {self.bound:.2f}"

    def verdict(self, value: float) -> str:
        """Whether a value is within the bound."""
        met = value >= self.bound if self.at_least else value <= self.bound
        return "met" if met else "MISSED"


@dataclass(frozen=True)
class Figure:
    """What was measured, with one value of each round."""

    name: str
    values: list[float]
    unit: str = ""
    goal: Goal | None = None

    @property
    def median(self) -> float:
        """The middle one of the values."""
        return statistics.median(self.values)

    def columns(self) -> list[str]:
        """Name, median, range, unit."""
        digits = 3 if self.unit == "s" else 2 if not self.unit else 1
        low, middle, high = (
            f"{value:.{digits}f}" for value in (min(self.values), self.median, max(self.values))
        )
        return [self.name, middle, f"{low} - {high}", self.unit]

    def verdict(self) -> list[str]:
        """Name, goal, median, range, verdict; empty without a goal."""
        if self.goal is None:
            return []
        name, middle, span, unit = self.columns()
        goal = f"{self.goal} {unit}".rstrip()
        return [name, goal, middle, span, self.goal.verdict(self.median)]


@dataclass(frozen=True)
class Server:
    """A running server; `started_in` is the seconds from its start to its first answer."""

    pid: int
    port: int
    started_in: float

    def memory(self, name: str = "VmRSS") -> float:
        """A size from the process's status, in MiB: VmRSS now, VmHWM at its highest."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        kibibytes = re.search(rf"^{name}:\s+(\d+) kB$", status, re.MULTILINE)
        if kibibytes is None:
            raise BenchError(f"/proc/{self.pid}/status has no {name}.")
        return int(kibibytes[1]) / 1_024


@dataclass(frozen=True)
class Bench:
    """How long and where to measure, and the commands that were run."""

    rounds: int
    seconds: int
    directory: Path
    settings: Settings
    commands: dict[str, None] = field(default_factory=dict)  # in order, each once

    def note(self, command: list[str], variables: Mapping[str, str]) -> None:
        """Keep a command to show it, with names in place of what differs from run to run."""
        assignments = [f"{name}={value}" for name, value in variables.items()]
        text = shlex.join(assignments + command).replace(str(self.directory), "DIRECTORY")
        for pattern, name in PLACEHOLDERS:
            text = re.sub(pattern, name, text)
        self.commands[text] = None

    @contextmanager
    def running(self, command: list[str], port: int, **variables: str) -> Iterator[Server]:
        """A server process that has answered, for as long as the block runs.

        None of our own AUTHAPI_… variables reaches it, so that it runs with the default settings.
        """
        self.note(command, variables)
        inherited = {key: text for key, text in os.environ.items() if not key.startswith(PREFIX)}
        with (self.directory / "servers.log").open("ab") as log:
            began = time.perf_counter()
            process = subprocess.Popen(
                command,
                env=inherited | variables,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for us: we stop it
            )
        try:
            wait_for_answer(process, port)
            yield Server(process.pid, port, time.perf_counter() - began)
        finally:
            stop(process)

    @contextmanager
    def authapi(self, name: str) -> Iterator[Server]:
        """The service on the database of that name, with its default settings."""
        directory = self.directory / name
        directory.mkdir(exist_ok=True)
        command = [sys.executable, "-m", "authapi", "serve"]
        with (
            reserved_port() as port,
            self.running(
                command,
                port,
                AUTHAPI_PORT=str(port),
                AUTHAPI_DATABASE_URL=f"sqlite:///{directory / 'authapi.db'}",
            ) as server,
        ):
            yield server

    @contextmanager
    def bare(self, size: int) -> Iterator[Server]:
        """The constant-bytes application, on the waitress settings of the service."""
        waitress = {
            "threads": self.settings.threads,
            "asyncore_use_poll": "true",
            "channel_request_lookahead": 0,
            "channel_timeout": service.IDLE_TIMEOUT,
            "cleanup_interval": 1,
            "connection_limit": service.CONNECTION_LIMIT,
            "ident": "",
            "max_request_body_size": BODY_LIMIT + 1,
            "max_request_header_size": service.HEADER_LIMIT,
        }
        script = str(Path(__file__).with_name("bare.py"))
        options = [f"{name}={value}" for name, value in waitress.items()]
        with (
            reserved_port() as port,
            self.running([sys.executable, script, str(port), str(size), *options], port) as server,
        ):
            yield server

    def wrk(self, server: Server, path: str, connections: int, *options: str) -> str:
        """What wrk prints after loading one path. Raises BenchError for lost connections."""
        load = ["-t1", f"-c{connections}", f"-d{self.seconds}s"]
        command = ["wrk", *load, *options, f"http://{HOST}:{server.port}{path}"]
        self.note(command, {})
        run = subprocess.run(command, capture_output=True, text=True, check=False)
        if run.returncode or "Socket errors" in run.stdout:
            raise BenchError(f"wrk failed on {path}: {run.stderr}{run.stdout}")
        return run.stdout

    def sessions_per_second(self, server: Server, connections: int, cookie: str) -> float:
        """GET /user per second. Raises BenchError for any answer but 2xx."""
        output = self.wrk(server, "/user", connections, "-H", f"Cookie: {cookie}")
        if "Non-2xx" in output:
            raise BenchError(f"GET /user was refused under load: {output}")
        return number(r"Requests/sec:", output)

    def logins_per_second(self, server: Server) -> tuple[float, int]:
        """Successful POST /login per second, and how many were answered 503.

        One connection more than hash slots: the next password waits while a session is committed.
        """
        script = self.directory / "login.lua"
        script.write_text(LOGIN_SCRIPT % json.dumps(LOGIN))
        output = self.wrk(server, "/login", self.settings.hash_slots + 1, "-s", str(script))
        succeeded, overloaded, failed = (
            int(number(f"{name}:", output)) for name in ("succeeded", "overloaded", "failed")
        )
        if failed or not succeeded:
            raise BenchError(f"POST /login was refused under load: {output}")
        share = succeeded / (succeeded + overloaded)
        return number(r"Requests/sec:", output) * share, overloaded

    def verifications_per_second(self) -> float:
        """Raw argon2 verifications per second, in as many threads as the service has hash slots."""
        settings = self.settings
        hasher = PasswordHasher(
            time_cost=settings.argon2_time_cost,
            memory_cost=settings.argon2_memory_kib,
            parallelism=settings.argon2_lanes,
            hash_len=HASH_LENGTH,
            salt_len=SALT_LENGTH,
        )
        encoded = hasher.hash(USER["password"])

        def rate(_thread: int) -> float:
            count, began = 0, time.perf_counter()
            while (elapsed := time.perf_counter() - began) < self.seconds:
                hasher.verify(encoded, USER["password"])
                count += 1
            return count / elapsed

        with ThreadPoolExecutor(settings.hash_slots) as pool:
            return sum(pool.map(rate, range(settings.hash_slots)))


@contextmanager
def reserved_port() -> Iterator[int]:
    """A port that only a server of ours takes: bound here, so that no one else is given it.

    NOTE: Linux lets a second socket bind and listen where both have SO_REUSEADDR. Without this, a
    connection attempt could be given the very port that it tries to reach, and reach itself.
    """
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind((HOST, 0))
        yield holder.getsockname()[1]


def wait_for_answer(process: subprocess.Popen[bytes], port: int) -> None:
    """Return when GET /user is first answered. Raises BenchError where the server ends before."""
    deadline = time.monotonic() + START_DEADLINE
    while process.poll() is None and time.monotonic() < deadline:
        try:
            ask(port, "GET", "/user")
        except ConnectionRefusedError:
            time.sleep(POLL_INTERVAL)
        else:
            return
    raise BenchError(f"{shlex.join(map(str, process.args))} gave no answer: see its output.")


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a server, by force where it does not end in time (which raises TimeoutExpired)."""
    process.terminate()
    try:
        process.wait(STOP_DEADLINE)
    finally:
        process.kill()
        process.wait()


def ask(
    port: int, method: str, path: str, body: object = None, **headers: str
) -> tuple[int, http.client.HTTPMessage, bytes]:
    """Send one request; give the answer's status, headers and body."""
    connection = http.client.HTTPConnection(HOST, port, timeout=START_DEADLINE)
    try:
        if body is not None:
            headers |= JSON_HEADERS
        connection.request(method, path, body and json.dumps(body), headers)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()


def register(server: Server) -> str:
    """Register the example user; give the session's cookie."""
    status, headers, body = ask(server.port, "POST", "/register", USER)
    if status != 201:
        raise BenchError(f"POST /register was answered {status}: {body!r}")
    return headers["Set-Cookie"].partition(";")[0]


def check_user(server: Server, cookie: str) -> bytes:
    """The answer to GET /user. Raises BenchError where it is not the example user's."""
    status, _, body = ask(server.port, "GET", "/user", Cookie=cookie)
    answer = json.loads(body)
    found = answer.get("user") or {}
    if (status, answer["code"], found.get("username"), found.get("email")) != (
        200,
        200,
        USER["username"],
        USER["email"],
    ):
        raise BenchError(f"GET /user was answered {status}: {body!r}")
    return body


def number(label: str, output: str) -> float:
    """The number after a label in wrk's output."""
    found = re.search(rf"{label}\s*([\d.]+)", output)
    if found is None:
        raise BenchError(f"wrk did not say {label} {output}")
    return float(found[1])


def ratios(measured: list[float], base: list[float]) -> list[float]:
    """One list by the other, round by round."""
    return [value / other for value, other in zip(measured, base, strict=True)]


def measure_session(bench: Bench) -> list[Figure]:
    """Session checks per second, beside the bare server's answers in the same round."""
    with bench.authapi("session") as server:
        cookie = register(server)
        size = len(check_user(server, cookie))
        with bench.bare(size) as bare:
            if len(ask(bare.port, "GET", "/user")[2]) != size:
                raise BenchError("The bare server's answer has another size than GET /user's.")
            rates = session_rates(bench, {"authapi": server, "bare": bare}, cookie)
        check_user(server, cookie)
    return list(chain.from_iterable(session_figures(rates, count) for count in CONNECTIONS))


def session_rates(
    bench: Bench, servers: Mapping[str, Server], cookie: str
) -> dict[tuple[str, int], list[float]]:
    """Answers per second of each server at each number of connections, of each round.

    They take turns, and who is first changes from round to round; round 0 is to warm up.
    """
    rates: dict[tuple[str, int], list[float]] = {}
    for turn in range(bench.rounds + 1):
        order = sorted(servers, reverse=bool(turn % 2))
        for count in CONNECTIONS if turn else CONNECTIONS[-1:]:
            for name in order:
                rate = bench.sessions_per_second(servers[name], count, cookie)
                if turn:
                    rates.setdefault((name, count), []).append(rate)
    return rates


def session_figures(rates: Mapping[tuple[str, int], list[float]], count: int) -> list[Figure]:
    """What one number of connections came to."""
    at = f"{count} connection{'s'[: count > 1]}"
    checks, answers = rates["authapi", count], rates["bare", count]
    return [
        Figure(f"session checks, {at}", checks, "/s"),
        Figure(f"bare answers, {at}", answers, "/s"),
        Figure(f"session check : bare, {at}", ratios(checks, answers), goal=Goal(True, 0.80)),  # noqa: FBT003
    ]


def measure_login(bench: Bench) -> list[Figure]:
    """Logins per second, beside raw argon2 verifications in the same round."""
    logins, hashes, overloads = [], [], []
    with bench.authapi("login") as server:
        register(server)
        bench.logins_per_second(server)  # warms up
        for turn in range(bench.rounds):
            if turn % 2:
                hashes.append(bench.verifications_per_second())
            rate, overloaded = bench.logins_per_second(server)
            logins.append(rate)
            overloads.append(float(overloaded))
            if not turn % 2:
                hashes.append(bench.verifications_per_second())
    return [
        Figure("logins", logins, "/s"),
        Figure("raw argon2 verifications", hashes, "/s"),
        Figure("logins answered 503", overloads, "answers"),
        Figure("login : raw argon2", ratios(logins, hashes), goal=Goal(True, 0.90)),  # noqa: FBT003
    ]


def measure_start(bench: Bench) -> list[Figure]:
    """Seconds from start to first answer, without a database and then with one."""
    first, again = [], []
    for turn in range(bench.rounds):
        for times in (first, again):
            with bench.authapi(f"start-{turn}") as server:
                times.append(server.started_in)
    return []


def main() -> int:
    return 0
