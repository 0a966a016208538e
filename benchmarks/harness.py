"""Shared by all measurements: servers that run for a while, and requests to them."""

from __future__ import annotations

import http.client
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from authapi.bodies import BODY_LIMIT
from authapi.server import parser
from authapi.server.bounds import DEFAULT
from authapi.settings import PREFIX, Settings, WorkerSettings

HOST = "127.0.0.1"
START_DEADLINE = 30  # seconds until a first answer
STOP_DEADLINE = 15  # seconds from SIGTERM to the end
POLL_INTERVAL = 0.0005  # seconds between two attempts to connect


USER = {"username": "crispengari", "email": "crispengari@gmail.com", "password": "crispengari"}
LOGIN = {"usernameOrEmail": USER["username"], "password": USER["password"]}
JSON_HEADERS = {"Content-Type": "application/json"}

PLACEHOLDERS = (
    (re.escape(sys.executable), "python"),
    (re.escape(f"{Path(__file__).parent}/"), "benchmarks/"),
    (r"(Cookie: [\w.-]+=)[^' ]+", r"\1TOKEN"),
    (r"\bSECRET=\w+", "SECRET=SECRET"),
    (r"SECRET_KEY=\w+", "SECRET_KEY=SECRET"),
    (r"(postgresql://\w+@[\d.]+):\d+", r"\1:PORT"),
    (rf"{HOST}:\d+", f"{HOST}:PORT"),
    (r"PORT=\d+", "PORT=PORT"),
    (r"--port \d+", "--port PORT"),
    (r"bare\.py \d+", "bare.py PORT"),
)


class BenchError(Exception):
    """A measurement without meaning. Its text is one sentence that says why."""


@dataclass(frozen=True)
class Server:
    """A running server; `started_in` is the seconds from its start to its first answer."""

    pid: int
    port: int
    started_in: float

    def processes(self) -> list[int]:
        """Return the ids of its process and all descendants."""
        found = [self.pid]
        for pid in found:  # grows while it is read
            for task in Path(f"/proc/{pid}/task").iterdir():
                found += map(int, (task / "children").read_text().split())
        return found

    def memory(self, name: str = "VmRSS") -> float:
        """Return a size from the first process's status in MiB: VmRSS, or VmHWM for the peak."""
        return kibibytes(Path(f"/proc/{self.pid}/status"), name) / 1_024

    def shared_memory(self) -> float:
        """Return the MiB of all its processes with each page counted once (PSS)."""
        rollups = [Path(f"/proc/{pid}/smaps_rollup") for pid in self.processes()]
        return sum(kibibytes(rollup, "Pss") for rollup in rollups) / 1_024


@dataclass(frozen=True)
class Bench:
    """The duration and the directory of measurements, and the commands that were run."""

    rounds: int
    seconds: int
    directory: Path
    settings: Settings
    variables: Callable[[str], dict[str, str]] | None = None  # for a database on a server, by name
    commands: dict[str, None] = field(default_factory=dict)  # in order, each once

    def note(self, command: list[str], variables: Mapping[str, str]) -> None:
        """Record a command for display, with names for what differs from run to run."""
        assignments = [f"{name}={value}" for name, value in variables.items()]
        text = shlex.join(assignments + command).replace(str(self.directory), "DIRECTORY")
        for pattern, name in PLACEHOLDERS:
            text = re.sub(pattern, name, text)
        self.commands[text] = None

    @contextmanager
    def running(
        self, command: list[str], port: int, status: int, path: str = "/user", **variables: str
    ) -> Iterator[Server]:
        """Run a server while the block runs, once GET `path` has answered with that status.

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
                start_new_session=True,  # this process handles Ctrl-C, and stops it
            )
        try:
            answered = wait_for_answer(process, port, path)
            started_in = time.perf_counter() - began
            if answered != status:
                said = (self.directory / "server.log").read_text()[-2_000:]
                raise BenchError(f"{command[:4]} answered {answered}, not {status}: {said}")
            yield Server(process.pid, port, started_in)
        finally:
            stop(process)

    @contextmanager
    def authapi(
        self, name: str, python: str = sys.executable, **variables: str
    ) -> Iterator[Server]:
        """Run the service on a named database with its default settings.

        `variables` are further AUTHAPI_… settings; `python` is another environment's interpreter.
        """
        directory = self.directory / name
        directory.mkdir(exist_ok=True)
        command = [python, "-m", "authapi", "serve"]
        url = {"AUTHAPI_DATABASE_URL": f"sqlite:///{directory / 'authapi.db'}"}
        with reserved_port() as port:
            settings = {
                "AUTHAPI_PORT": str(port),
                **(self.variables(name) if self.variables else url),
                "AUTHAPI_RATE_LIMITS": "off",  # all load comes from one address
                **variables,
            }
            with self.running(command, port, 401, **settings) as server:
                yield server

    @contextmanager
    def bare(self, size: int) -> Iterator[Server]:
        """Run the application of constant bytes, with the service's waitress settings."""
        waitress = {
            "threads": self.settings.of(WorkerSettings).threads,
            "asyncore_use_poll": "true",
            "channel_request_lookahead": 0,
            "channel_timeout": DEFAULT.idle,
            "cleanup_interval": 1,
            "connection_limit": DEFAULT.connections,
            "ident": "",
            "max_request_body_size": BODY_LIMIT + 1,
            "max_request_header_size": parser.HEADER_LIMIT,
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

    def wrk(
        self, server: Server, path: str, connections: int, *options: str, strict: bool = True
    ) -> str:
        """Return what wrk prints after loading one path.

        Raises BenchError for lost connections and, if strict, for answers after more than 2
        seconds.
        """
        load = ["-t1", f"-c{connections}", f"-d{self.seconds}s"]
        command = ["wrk", *load, *options, f"http://{HOST}:{server.port}{path}"]
        self.note(command, {})
        run = subprocess.run(command, capture_output=True, text=True, check=False)
        if run.returncode or (strict and "Socket errors" in run.stdout):
            raise BenchError(f"wrk failed on {path}: {run.stderr}{run.stdout}")
        return run.stdout


def kibibytes(path: Path, name: str) -> int:
    """Return a named size from a file of /proc."""
    found = re.search(rf"^{name}:\s+(\d+) kB$", path.read_text(), re.MULTILINE)
    if found is None:
        raise BenchError(f"{path} has no {name}.")
    return int(found[1])


@contextmanager
def reserved_port() -> Iterator[int]:
    """Yield a port that stays bound here, so that only a server of ours takes it.

    NOTE: Linux lets a second socket bind and listen if both have SO_REUSEADDR. Without this, a
    connection attempt could get the very port that it tries to reach, and reach itself.
    """
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind((HOST, 0))
        yield holder.getsockname()[1]


def wait_for_answer(process: subprocess.Popen[bytes], port: int, path: str) -> int | None:
    """Wait for the first answer to GET `path` and return its status; None if none comes."""
    deadline = time.monotonic() + START_DEADLINE
    while process.poll() is None and time.monotonic() < deadline:
        try:
            return ask(port, "GET", path)[0]
        except ConnectionError:
            time.sleep(POLL_INTERVAL)
    return None


def stop(process: subprocess.Popen[bytes]) -> None:
    """Stop a server, by force if it does not end in time (which raises TimeoutExpired)."""
    process.terminate()
    try:
        process.wait(STOP_DEADLINE)
    finally:
        with suppress(ProcessLookupError):  # its children too, which are of its process group
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def ask(
    port: int, method: str, path: str, body: Mapping[str, str] | None = None, **headers: str
) -> tuple[int, http.client.HTTPMessage, bytes]:
    """Send one request, with a body as JSON; return the answer's status, headers and body."""
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
    """Register the example user; return the session's cookie."""
    status, headers, body = ask(server.port, "POST", "/register", USER)
    if status != 201:
        raise BenchError(f"POST /register was answered {status}: {body!r}")
    return headers["Set-Cookie"].partition(";")[0]


def check_user(server: Server, cookie: str) -> bytes:
    """Return the answer to GET /user. Raises BenchError if it is not the example user's."""
    status, _, body = ask(server.port, "GET", "/user", Cookie=cookie)
    check_answer("GET /user", status, body)
    return body


def check_login(server: Server) -> None:
    """Log in once. Raises BenchError if the answer is not the example user's."""
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
    """Return the number after a label in wrk's output."""
    found = re.search(rf"{label}\s*([\d.]+)", output)
    if found is None:
        raise BenchError(f"wrk did not say {label} {output}")
    return float(found[1])
