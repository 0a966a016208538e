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
from authapi.machine import available_cpus
from authapi.passwords import HASH_LENGTH, SALT_LENGTH
from authapi.settings import PREFIX, Settings
from authapi.wire import BODY_LIMIT

HOST = "127.0.0.1"
CONNECTIONS = (1, 8, 32)  # of a session check
START_DEADLINE = 30  # seconds until a first answer
SETTLE_TIME = 1  # seconds in which the service finishes the logins that wrk left behind
STOP_DEADLINE = 15  # seconds from SIGTERM to the end
POLL_INTERVAL = 0.0005  # seconds between two attempts to connect
DIGITS = {"": 2, "s": 3, "/s": 1, "MiB": 1, "answers": 0}  # after the point, by unit

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
    (re.escape(f"{Path(__file__).parent}/"), "benchmarks/"),
    (r"jwt=[\w.-]+", "jwt=TOKEN"),
    (rf"{HOST}:\d+", f"{HOST}:PORT"),
    (r"_PORT=\d+", "_PORT=PORT"),
    (r"bare\.py \d+", "bare.py PORT"),
)


class BenchError(Exception):
    """A measurement that means nothing. Its text is one sentence that says why."""


@dataclass(frozen=True)
class Goal:
    """A bound for the median of a figure; `sign` is `>=` or `<=`."""

    sign: str
    bound: float

    def verdict(self, value: float) -> str:
        """Whether a value is within the bound."""
        met = value >= self.bound if self.sign == ">=" else value <= self.bound
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

    def shown(self, value: float) -> str:
        """A value with the digits that its unit deserves."""
        return f"{value:.{DIGITS[self.unit]}f}"

    def row(self) -> tuple[str, ...]:
        """Name, median, range, unit."""
        span = f"{self.shown(min(self.values))} - {self.shown(max(self.values))}"
        return self.name, self.shown(self.median), span, self.unit

    def goal_row(self, goal: Goal) -> tuple[str, ...]:
        """Name, goal, median, range, verdict."""
        name, median, span, unit = self.row()
        wanted = f"{goal.sign} {self.shown(goal.bound)} {unit}".rstrip()
        return name, wanted, median, span, goal.verdict(self.median)


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
    def running(
        self, command: list[str], port: int, status: int, **variables: str
    ) -> Iterator[Server]:
        """A server that has answered GET /user with that status, for as long as the block runs.

        None of our own AUTHAPI_… variables reaches it, so that it runs with the default settings.
        """
        self.note(command, variables)
        inherited = {key: text for key, text in os.environ.items() if not key.startswith(PREFIX)}
        with (self.directory / "server.log").open("ab") as log:
            began = time.perf_counter()
            process = subprocess.Popen(
                command,
                env=inherited | variables,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for us: we stop it
            )
        try:
            answered = wait_for_answer(process, port)
            started_in = time.perf_counter() - began
            if answered != status:
                said = (self.directory / "server.log").read_text()[-2_000:]
                raise BenchError(f"{command[1:4]} answered {answered}, not {status}: {said}")
            yield Server(process.pid, port, started_in)
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
                status=401,
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
            "connection_limit": service.MOST_CONNECTIONS,
            "ident": "",
            "max_request_body_size": BODY_LIMIT + 1,
            "max_request_header_size": service.HEADER_LIMIT,
        }
        script = str(Path(__file__).with_name("bare.py"))
        options = [f"{name}={value}" for name, value in waitress.items()]
        with (
            reserved_port() as port,
            self.running(
                [sys.executable, script, str(port), str(size), *options], port, status=200
            ) as server,
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
        """GET /user per second. Raises BenchError where one was refused."""
        output = self.wrk(server, "/user", connections, "-H", f"Cookie: {cookie}")
        if "Non-2xx" in output:
            raise BenchError(f"GET /user was refused under load: {output}")
        return number("Requests/sec:", output)

    def logins_per_second(self, server: Server) -> tuple[float, int]:
        """Successful POST /login per second, and how many were answered 503.

        One connection more than hash slots: the next password waits while a session is committed.
        """
        script = self.directory / "login.lua"
        script.write_text(LOGIN_SCRIPT % json.dumps(LOGIN))
        output = self.wrk(server, "/login", self.settings.hash_slots + 1, "-s", str(script))
        time.sleep(SETTLE_TIME)
        succeeded, overloaded, failed = (
            int(number(f"{name}:", output)) for name in ("succeeded", "overloaded", "failed")
        )
        if failed or not succeeded:
            raise BenchError(f"POST /login was refused under load: {output}")
        share = succeeded / (succeeded + overloaded)
        return number("Requests/sec:", output) * share, overloaded

    def verifications_per_second(self) -> float:
        """Raw argon2 verifications per second, in as many threads as the service has hash slots.

        Counted as wrk counts logins: what is under way at the end is none.
        """
        settings = self.settings
        hasher = PasswordHasher(
            time_cost=settings.argon2_time_cost,
            memory_cost=settings.argon2_memory_kib,
            parallelism=settings.argon2_lanes,
            hash_len=HASH_LENGTH,
            salt_len=SALT_LENGTH,
        )
        encoded = hasher.hash(USER["password"])
        deadline = time.monotonic() + self.seconds

        def count(_thread: int) -> int:
            finished = 0
            while True:
                hasher.verify(encoded, USER["password"])
                if time.monotonic() > deadline:
                    return finished
                finished += 1

        with ThreadPoolExecutor(settings.hash_slots) as pool:
            return sum(pool.map(count, range(settings.hash_slots))) / self.seconds


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


def wait_for_answer(process: subprocess.Popen[bytes], port: int) -> int | None:
    """The status of the first answer to GET /user, once it is there; None where none comes."""
    deadline = time.monotonic() + START_DEADLINE
    while process.poll() is None and time.monotonic() < deadline:
        try:
            return ask(port, "GET", "/user")[0]
        except ConnectionError:
            time.sleep(POLL_INTERVAL)
    return None


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a server, by force where it does not end in time (which raises TimeoutExpired)."""
    process.terminate()
    try:
        process.wait(STOP_DEADLINE)
    finally:
        process.kill()
        process.wait()


def ask(
    port: int, method: str, path: str, body: Mapping[str, str] | None = None, **headers: str
) -> tuple[int, http.client.HTTPMessage, bytes]:
    """Send one request, a body as JSON; give the answer's status, headers and body."""
    connection = http.client.HTTPConnection(HOST, port, timeout=START_DEADLINE)
    try:
        if body is None:
            connection.request(method, path, headers=headers)
        else:
            connection.request(method, path, json.dumps(body), headers | JSON_HEADERS)
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
    check_answer("GET /user", status, body)
    return body


def check_login(server: Server) -> None:
    """Log in once. Raises BenchError where the answer is not the example user's."""
    status, _, body = ask(server.port, "POST", "/login", LOGIN)
    check_answer("POST /login", status, body)


def check_answer(request: str, status: int, body: bytes) -> None:
    """Raise BenchError for any answer but the envelope with the example user."""
    answer = json.loads(body)
    shown = answer.get("user") or {}
    found = status, answer["code"], shown.get("username"), shown.get("email")
    if found != (200, 200, USER["username"], USER["email"]):
        raise BenchError(f"{request} was answered {status}: {body!r}")


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
        Figure(f"session check : bare, {at}", ratios(checks, answers), goal=Goal(">=", 0.80)),
    ]


def measure_login(bench: Bench) -> list[Figure]:
    """Logins per second, beside raw argon2 verifications in the same round."""
    logins, hashes, overloads = [], [], []
    with bench.authapi("login") as server:
        register(server)
        check_login(server)
        bench.logins_per_second(server)  # warms up
        for _ in range(bench.rounds):
            hashes.append(bench.verifications_per_second())
            rate, overloaded = bench.logins_per_second(server)
            logins.append(rate)
            overloads.append(float(overloaded))
    return [
        Figure("logins", logins, "/s"),
        Figure("raw argon2 verifications", hashes, "/s"),
        Figure("logins answered 503", overloads, "answers"),
        Figure("login : raw argon2", ratios(logins, hashes), goal=Goal(">=", 0.90)),
    ]


def measure_start(bench: Bench) -> list[Figure]:
    """Seconds from start to first answer, on an empty directory and then on its database."""
    empty: list[float] = []
    existing: list[float] = []
    for _ in range(bench.rounds):
        for times in (empty, existing):
            with bench.authapi("start") as server:
                times.append(server.started_in)
        shutil.rmtree(bench.directory / "start")
    return [
        Figure("start to first answer, existing database", existing, "s", Goal("<=", 0.6)),
        Figure("start to first answer, empty directory", empty, "s", Goal("<=", 0.6)),
    ]


def measure_memory(bench: Bench) -> list[Figure]:
    """Resident memory after one answer, and after a registration, session checks and logins."""
    rest, loaded, highest = [], [], []
    for _ in range(bench.rounds):
        with bench.authapi("memory"):
            pass  # leaves a database, as in every start but the first
        with bench.authapi("memory") as server:
            rest.append(server.memory())
            cookie = register(server)
            bench.sessions_per_second(server, CONNECTIONS[-1], cookie)
            bench.logins_per_second(server)
            loaded.append(server.memory())
            highest.append(server.memory("VmHWM"))
        shutil.rmtree(bench.directory / "memory")
    return [
        Figure("resident memory at rest", rest, "MiB", Goal("<=", 45)),
        Figure("resident memory after load", loaded, "MiB"),
        Figure("highest resident memory under load", highest, "MiB"),
    ]


MEASUREMENTS = {
    "session": measure_session,
    "login": measure_login,
    "start": measure_start,
    "memory": measure_memory,
}


def machine(bench: Bench) -> list[tuple[str, ...]]:
    """What the figures depend on."""
    settings = bench.settings
    cost = f"m={settings.argon2_memory_kib} t={settings.argon2_time_cost} p={settings.argon2_lanes}"
    cpus = f"{os.cpu_count()} CPUs, {available_cpus()} of them ours"
    return [
        ("CPU", f"{cpu_model()}, {cpus}, load {os.getloadavg()[0]:.1f}"),
        ("kernel", f"{platform.system()} {platform.release()} {platform.machine()}"),
        ("Python", f"{platform.python_version()}, SQLite {sqlite3.sqlite_version}"),
        ("packages", ", ".join(packages())),
        ("wrk", wrk_version()),
        ("database on", file_system(bench.directory)),
        ("service", f"threads {settings.threads}, hash slots {settings.hash_slots}, argon2 {cost}"),
        ("rounds", f"{bench.rounds}, {bench.seconds} s for each measurement"),
    ]


def cpu_model() -> str:
    """The processor's name, where /proc/cpuinfo says it."""
    found = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1] if found else "unknown"


def packages() -> list[str]:
    """The name and version of authapi and of what it requires."""
    required = [text for text in metadata.requires("authapi") or () if "extra ==" not in text]
    names = [re.split(r"[^\w.-]", text)[0] for text in required]
    return [f"{name} {metadata.version(name)}" for name in ["authapi", *names]]


def wrk_version() -> str:
    """The version as wrk says it, which ends with status 1 even so."""
    run = subprocess.run(["wrk", "--version"], capture_output=True, text=True, check=False)
    return run.stdout.split()[1]


def file_system(directory: Path) -> str:
    """The type of a directory's file system; on tmpfs a commit costs nothing."""
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    above = [mount for mount in mounts if directory.is_relative_to(mount[1])]
    return max(above, key=lambda mount: len(mount[1]))[2]


def show(title: str, rows: list[tuple[str, ...]]) -> None:
    """Print a title and rows in columns."""
    print(f"\n{title}")
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        print(f"  {'  '.join(cells)}".rstrip(), flush=True)


def run(bench: Bench, names: list[str]) -> None:
    """Measure, and print all of it."""
    show("Machine", machine(bench))
    figures = []
    for name in names:
        measured = MEASUREMENTS[name](bench)
        show(f"{name.capitalize()}: median, min - max", [figure.row() for figure in measured])
        figures += measured
    show("Commands", [(command,) for command in bench.commands])
    goals = [figure.goal_row(figure.goal) for figure in figures if figure.goal]
    show("Goals", [("", "goal", "median", "min - max", ""), *goals])


def positive(text: str) -> int:
    """A whole number from 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return value


def arguments() -> argparse.Namespace:
    """The command line's options."""
    parser = argparse.ArgumentParser(description="Measure authapi, and compare with its goals.")
    parser.add_argument("--rounds", type=positive, default=5, help="default: 5")
    parser.add_argument(
        "--seconds", type=positive, default=3, help="of each measurement; default: 3"
    )
    parser.add_argument("--only", choices=MEASUREMENTS, help="measure just this")
    return parser.parse_args()


def main() -> int:
    """Run the benchmark; return its exit status, 1 where a measurement failed."""
    options = arguments()
    if shutil.which("wrk") is None:
        sys.exit("bench.py needs wrk, which is not installed: apt-get install wrk.")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that servers are stopped
    names = [options.only] if options.only else list(MEASUREMENTS)
    try:
        with tempfile.TemporaryDirectory(prefix="authapi-bench-") as directory:
            run(Bench(options.rounds, options.seconds, Path(directory), Settings()), names)
    except BenchError as error:
        print(f"bench.py: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
