"""The compared services behind one interface: start them and send requests."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from harness import HOST, START_DEADLINE, Bench, BenchError, Server, reserved_port
from peers import EMAIL, NAME, PASSWORD, Cost, Peer, Request, Service, attempt

OURS = Service(
    name="authapi",
    title="authapi",
    check="/user",
    uninvited=401,
    register=Request(
        "/register", json.dumps({"username": NAME, "email": EMAIL, "password": PASSWORD}), 201
    ),
    login=Request("/login", json.dumps({"usernameOrEmail": NAME, "password": PASSWORD}), 200),
    workers=True,
)


@dataclass
class Contestant:
    """A service that can be started, with a database of one user for each argon2 cost."""

    name: str
    title: str
    service: Service
    cookies: dict[Cost, str] = field(default_factory=dict, init=False)

    def running(self, bench: Bench, cost: Cost, workers: int = 1) -> AbstractContextManager[Server]:
        """Run it on its database for a cost while the block runs."""
        raise NotImplementedError

    def prepare(self, bench: Bench, cost: Cost) -> None:
        """Make the database, register the user, and keep the cookie of a login.

        Raises BenchError if it refuses the right password or accepts another.
        """
        register, login = self.service.register, self.service.login
        wrong = replace(login, body=login.body.replace(PASSWORD, "something-else-entirely"))
        with self.running(bench, cost) as server:
            self.expect(server, register)
            self.cookies[cost] = self.expect(server, login)
            status, cookie, _ = post(server, wrong)
            if status == login.status or cookie:
                raise BenchError(f"{self.title} took a wrong password.")
            self.check(server, cost)

    def expect(self, server: Server, request: Request) -> str:
        """Return the cookie of a request. Raises BenchError if the request fails."""
        status, cookie, body = post(server, request)
        if status != request.status:
            raise BenchError(f"{self.title} answered {request.path} with {status}: {body!r}")
        return cookie

    def check(self, server: Server, cost: Cost) -> int:
        """Return the bytes of an answer to a session check. Raises BenchError for a wrong one."""
        answer = raw_get(server, self.service.check, self.cookies[cost])
        if not answer.startswith(b"HTTP/1.1 200 ") or EMAIL.encode() not in answer:
            raise BenchError(f"{self.title} answered a session check with {answer!r}")
        return len(answer)


@dataclass
class Ours(Contestant):
    """The service of this repository; `variables` are further environment variables."""

    variables: dict[str, str]

    @contextmanager
    def running(self, bench: Bench, cost: Cost, workers: int = 1) -> Iterator[Server]:
        """Run it with its default settings except for the cost, the workers, and the sessions.

        All logins are one user's. With 100 sessions for each user, they would end the session that
        is checked.
        """
        settings = self.variables | {
            "AUTHAPI_MAX_SESSIONS": "10000",
            "AUTHAPI_RATE_LIMITS": "off",
            "AUTHAPI_WORKERS": str(workers),
            "AUTHAPI_ARGON2_MEMORY_KIB": str(cost.memory_kib),
            "AUTHAPI_ARGON2_TIME_COST": str(cost.passes),
            "AUTHAPI_ARGON2_LANES": str(cost.lanes),
        }
        with bench.authapi(f"{self.name}-{cost.memory_kib}", **settings) as server:
            yield server


@dataclass
class Installed(Contestant):
    """A peer, in the directory where it is installed."""

    peer: Peer
    home: Path
    url: str = ""  # of a PostgreSQL database; else it makes SQLite files
    migrated: set[Cost] = field(default_factory=set, init=False)

    @contextmanager
    def running(self, bench: Bench, cost: Cost, workers: int = 1) -> Iterator[Server]:
        """Run it as its documentation says."""
        database = self.url or str(bench.directory / f"{self.name}-{cost.memory_kib}.db")
        with reserved_port() as port:
            variables = self.peer.variables(database, port, workers, cost)
            migration = self.peer.migration(self.home)
            if migration and cost not in self.migrated:
                attempt(self.title, migration, **variables)
                self.migrated.add(cost)
            command = self.peer.command(self.home, port, workers)
            check, uninvited = self.service.check, self.service.uninvited
            with bench.running(command, port, uninvited, check, **variables) as server:
                yield server


@dataclass
class Bare(Contestant):
    """The server of constant bytes, which shows what waitress alone can do."""

    size: int

    @contextmanager
    def running(self, bench: Bench, cost: Cost, workers: int = 1) -> Iterator[Server]:  # noqa: ARG002 - there is nothing to hash
        """Run it in one process."""
        with bench.bare(self.size) as server:
            yield server

    def prepare(self, bench: Bench, cost: Cost) -> None:  # noqa: ARG002 - nor is there a database
        """Take any cookie of the length of a real one."""
        self.cookies[cost] = f"jwt={'x' * 400}"

    def check(self, server: Server, cost: Cost) -> int:
        """Return the bytes of an answer."""
        return len(raw_get(server, self.service.check, self.cookies[cost]))


def post(server: Server, request: Request) -> tuple[int, str, bytes]:
    """Return the status, the cookie (or an empty text) and the body of an answer."""
    connection = http.client.HTTPConnection(HOST, server.port, timeout=START_DEADLINE)
    try:
        headers = {"Content-Type": request.content_type}
        connection.request("POST", request.path, request.body, headers)
        answer = connection.getresponse()
        cookie = answer.getheader("Set-Cookie", "").partition(";")[0]
        return answer.status, cookie, answer.read()
    finally:
        connection.close()


def raw_post(server: Server, request: Request) -> bytes:
    """Return the bytes of a request on a connection of its own."""
    lines = (
        f"POST {request.path} HTTP/1.1",
        f"Host: {HOST}:{server.port}",
        f"Content-Type: {request.content_type}",
        f"Content-Length: {len(request.body)}",
        "Connection: close",
    )
    return ("\r\n".join(lines) + "\r\n\r\n" + request.body).encode()


def raw_get(server: Server, path: str, cookie: str) -> bytes:
    """Return the bytes of an answer to the request that wrk sends."""
    lines = f"GET {path} HTTP/1.1\r\nHost: {HOST}:{server.port}\r\nCookie: {cookie}\r\n\r\n"
    with socket.create_connection((HOST, server.port), timeout=START_DEADLINE) as connection:
        connection.sendall(lines.encode())
        answer = b""
        while not is_whole(answer):
            received = connection.recv(65_536)
            if not received:
                break
            answer += received
    return answer


def is_whole(answer: bytes) -> bool:
    """Return whether an answer is complete, by its Content-Length or chunks."""
    head, _, body = answer.partition(b"\r\n\r\n")
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return len(body) >= int(line.partition(b":")[2])
    return body.endswith(b"0\r\n\r\n")
