"""Attack the service from one address: many connections, each of which sends requests all the time.

Run as `python attack.py --kind NAME --port N --source ADDRESS --connections N --seconds N`. Several
kinds share the connections. It prints an Outcome as JSON. All requests are prepared, one loop
serves all connections, and the process runs at nice 19, so that it takes little CPU. It connects
only to 127.0.0.1, and stops after the given time.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import re
import secrets
import select
import socket
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field

HOST = "127.0.0.1"
PREPARED = 2_000  # different requests of a kind
LARGE = 50  # of large requests
OPENED_AT_ONCE = 20  # connections in a turn of the loop
LOWEST_PRIORITY = 19
PAUSE = 0.05  # seconds between two pieces of a slow request
TURN = 0.01  # seconds that the loop waits at most
NARROW = 2_048  # bytes of receive buffer if answers are not read
STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) ")


@dataclass
class Outcome:
    """The result of the attack: answers by status, connections, bytes, and its own CPU seconds."""

    answered: dict[str, int] = field(default_factory=dict)
    opened: int = 0
    sent: int = 0
    cpu: float = 0.0


@dataclass(frozen=True)
class Kind:
    """A kind of attack: its requests, the answers to each, and how it is sent.

    `piece` is the number of bytes to send at once, with PAUSE between pieces; 0 sends all.
    """

    requests: list[bytes]
    answers: int = 1
    reads: bool = True
    piece: int = 0


def get(path: bytes, fields: bytes = b"") -> bytes:
    """Return a request without a body."""
    return b"GET %s HTTP/1.1\r\nHost: x\r\n%s\r\n" % (path, fields)


def post(path: bytes, body: bytes) -> bytes:
    """Return a request with a JSON body."""
    head = b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n" % path
    return b"%sContent-Length: %d\r\n\r\n%s" % (head, len(body), body)


def prepared(form: Callable[[bytes], bytes], count: int = PREPARED) -> list[bytes]:
    """Return requests that differ by a random word."""
    return [form(secrets.token_hex(8).encode()) for _ in range(count)]


def login(word: bytes) -> bytes:
    """Return a login with an unknown name."""
    return post(b"/login", b'{"usernameOrEmail":"%s","password":"wrong password"}' % word)


def registration(word: bytes) -> bytes:
    """Return a valid registration."""
    form = b'{"username":"u%s","email":"%s@example.com","password":"a long pass phrase"}'
    return post(b"/register", form % (word, word))


def verification(word: bytes) -> bytes:
    """Return a session check with a forged token."""
    token = b"eyJhbGciOiJIUzI1NiJ9.%s.%s" % (word * 15, word * 2)
    return get(b"/verify", b"Cookie: jwt=%s\r\n" % token)


def large(word: bytes) -> bytes:
    """Return a body near the size limit with only unknown fields."""
    fields = b",".join(b'"%s%d":0' % (word, number) for number in range(2_500))
    return post(b"/logout", b"{%s}" % fields)


KINDS: dict[str, Callable[[], Kind]] = {
    "bad logins": lambda: Kind(prepared(login)),
    "registrations": lambda: Kind(prepared(registration)),
    "404s": lambda: Kind(prepared(lambda word: get(b"/" + word))),
    "large bodies": lambda: Kind(prepared(large, LARGE)),
    "slow bodies": lambda: Kind(prepared(login), piece=4),
    "random tokens": lambda: Kind(prepared(verification)),
    "header fields": lambda: Kind([get(b"/verify", b"a:\r\n" * 3_950)]),
    "requests ahead": lambda: Kind([get(b"/verify") * 100], answers=100),
    "unread answers": lambda: Kind([get(b"/user") * 60], reads=False),
    "aborted requests": lambda: Kind([login(b"a")[:-1]], answers=0),
}


class Connection:
    """A connection of the attack, and what it still has to send and to read."""

    def __init__(self, kind: Kind, port: int, source: str) -> None:
        """Start to connect. Raises OSError."""
        self.kind, self.due, self.left = kind, 0, b""
        self.socket = socket.socket()
        self.socket.setblocking(False)  # noqa: FBT003 - socket's own
        if not kind.reads:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, NARROW)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with suppress(BlockingIOError):
            self.socket.bind((source, 0))
            self.socket.connect((HOST, port))

    @property
    def is_done(self) -> bool:
        """Return whether the request is sent and its awaited answers have come."""
        return not self.left and (self.due <= 0 or not self.kind.reads)

    def send(self) -> int:
        """Send a piece, or as much as fits; return the number of bytes. Raises OSError."""
        size = self.socket.send(self.left[: self.kind.piece or len(self.left)])
        self.left = self.left[size:]
        return size


class Attack:
    """Keeps a number of connections busy for some seconds."""

    def __init__(self, kinds: list[Kind], port: int, source: str, count: int) -> None:
        """Name the service and the source address. Nothing is opened yet."""
        self._port, self._source, self._count = port, source, count
        self._kinds = itertools.cycle(kinds)
        self._requests = {id(kind): itertools.cycle(kind.requests) for kind in kinds}
        self._epoll = select.epoll()
        self._open: dict[int, Connection] = {}
        self._paused: deque[tuple[float, Connection]] = deque()
        self.outcome = Outcome()

    def run(self, seconds: float) -> None:
        """Attack for some seconds, then close all connections."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self._top_up()
            for number, events in self._epoll.poll(TURN):
                self._handle(self._open[number], events)
            while self._paused and self._paused[0][0] <= time.monotonic():
                self._watch(self._paused.popleft()[1], select.EPOLLOUT)
        for connection in list(self._open.values()):
            self._close(connection)
        self.outcome.cpu = time.process_time()

    def _top_up(self) -> None:
        for _ in range(min(self._count - len(self._open), OPENED_AT_ONCE)):
            connection = Connection(next(self._kinds), self._port, self._source)
            self._open[connection.socket.fileno()] = connection
            self._epoll.register(connection.socket, 0)
            self.outcome.opened += 1
            self._ask(connection)

    def _ask(self, connection: Connection) -> None:
        connection.left = next(self._requests[id(connection.kind)])
        connection.due = connection.kind.answers
        self._watch(connection, select.EPOLLOUT)

    def _watch(self, connection: Connection, events: int) -> None:
        if connection.socket.fileno() in self._open:  # else it was closed while paused
            self._epoll.modify(connection.socket, events)

    def _handle(self, connection: Connection, events: int) -> None:
        """Continue a connection; replace one that has ended."""
        try:
            if events & select.EPOLLOUT:
                self._send(connection)
            elif not self._read(connection) or events & (select.EPOLLHUP | select.EPOLLERR):
                self._close(connection)
        except BlockingIOError:
            pass
        except OSError:
            self._close(connection)

    def _send(self, connection: Connection) -> None:
        self.outcome.sent += connection.send()
        if connection.left and connection.kind.piece:
            self._watch(connection, 0)
            self._paused.append((time.monotonic() + PAUSE, connection))
        elif not connection.left and not connection.kind.answers:
            self._close(connection)
        elif not connection.left:
            self._watch(connection, select.EPOLLIN if connection.kind.reads else 0)

    def _read(self, connection: Connection) -> bool:
        """Count answers, and ask again after the last one. Return False if the connection ended."""
        data = connection.socket.recv(65_536)
        for status in STATUS.findall(data):
            name = status.decode()
            self.outcome.answered[name] = self.outcome.answered.get(name, 0) + 1
            connection.due -= 1
        if data and connection.is_done:
            self._ask(connection)
        return bool(data)

    def _close(self, connection: Connection) -> None:
        if self._open.pop(connection.socket.fileno(), None):
            self._epoll.unregister(connection.socket)
        connection.socket.close()


def main() -> None:
    """Attack, and print the outcome."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kind", action="append", choices=KINDS, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--source", required=True, help="an address of 127.0.0.0/8")
    parser.add_argument("--connections", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    options = parser.parse_args()
    os.nice(LOWEST_PRIORITY)
    kinds = [KINDS[name]() for name in options.kind]
    attack = Attack(kinds, options.port, options.source, options.connections)
    attack.run(options.seconds)
    print(json.dumps(asdict(attack.outcome)))


if __name__ == "__main__":
    main()
