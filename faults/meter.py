"""The cost of a request: the CPU time of the service's process, its answer and its log."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from faults.harness import HOST, PATIENCE, NoStartError, Service
from faults.requests import Request, Visitor, message

USER = b'{"username":"crispengari","email":"crispengari@gmail.com","password":"crispengari"}'
LOGIN = b'{"usernameOrEmail":"crispengari","password":"crispengari"}'
RENEWED = 120  # seconds after which the requests use another session, while it is fresh
SETTLE = 0.002  # seconds for the service to finish what follows its last answer
PACE = 0.000_2  # seconds between segments, so that each is read alone
SILENCE = 0.1  # seconds without an answer or CPU time, after which none will come
IDLE = 1_000_000  # nanoseconds of CPU time that an idle service uses in that time at most
RECKONED = 0.1  # seconds of CPU that `_reckon` takes on the reference machine
_CPU_CLOCK = 2  # CPUCLOCK_SCHED: the time that the scheduler counts, in nanoseconds
_HEAD = re.compile(rb"HTTP/1\.[01] (\d{3}) [^\r]*\r\n(.*?)\r\n\r\n", re.DOTALL)
_LENGTH = re.compile(rb"^content-length: *(\d+)", re.IGNORECASE | re.MULTILINE)


@dataclass(frozen=True)
class Cost:
    """The cost of one request: seconds of CPU, bytes of answer and of log, and the last status.

    Seconds are those of the reference machine, so that limits mean the same on every machine.
    """

    seconds: float
    answered: int
    logged: int
    status: int


def cpu_time(pid: int) -> int:
    """Return nanoseconds of CPU of all threads of a process (clock_getcpuclockid(3))."""
    return time.clock_gettime_ns(~pid << 3 | _CPU_CLOCK)


def _reckon() -> float:
    """Return seconds of CPU that this machine takes for a fixed piece of work."""
    began = time.process_time()
    counts: dict[bytes, int] = {}
    for number in range(300_000):
        key = b"%d" % (number % 1_000)
        counts[key] = counts.get(key, 0) + len(key.partition(b"5")[0])
    return time.process_time() - began


class Meter:
    """Sends requests to a service on a kept-alive connection, and measures them."""

    def __init__(self, service: Service, folder: Path) -> None:
        """Register the user whose tokens the requests use. Raises NoStartError."""
        self._pid, self._port, self._log = service.pid, service.port, folder / "log"
        self._scale = RECKONED / min(_reckon() for _ in range(5)) / 1e9
        self._socket: socket.socket | None = None
        self._received = b""
        self._sent = 0
        self._token = self._device = b""
        self._open_session(b"/register", USER)

    def measure(self, build: Callable[[Visitor], Request], times: int, *, settles: bool) -> Cost:
        """Return the cost of one of `times` requests; `settles` waits for work after an answer."""
        if time.monotonic() - self._opened > RENEWED:
            self._open_session(b"/login", LOGIN)
        requests = [build(self._visitor()) for _ in range(times)]
        logged, answered, status = self._log.stat().st_size, 0, 0
        before = cpu_time(self._pid)
        for request in requests:
            status, size = self._exchange(request)
            answered += size
        if settles:
            time.sleep(SETTLE)
        took = (cpu_time(self._pid) - before) * self._scale
        each = sum(max(1, request.answers) for request in requests)
        logged = self._log.stat().st_size - logged
        return Cost(took / each, answered // each, logged // each, status)

    def close(self) -> None:
        """Close the connection."""
        if self._socket:
            self._socket.close()
        self._socket, self._received = None, b""

    def _visitor(self) -> Visitor:
        self._sent += 1
        return Visitor(b"%08d" % self._sent, self._token, self._device)

    def _exchange(self, request: Request) -> tuple[int, int]:
        """Send a request; return the last status, 0 if none came, and the bytes of the answers."""
        status = size = 0
        try:
            self._send(request.pieces)
            for _ in range(request.answers):
                status, length, _ = self._answer()
                size += length
        except ConnectionError:
            self.close()
        if not request.answers:
            self.close()
        return status, size

    def _send(self, pieces: tuple[bytes, ...]) -> None:
        """Send the pieces. A service that hangs up may answer before it has read all."""
        if self._socket is None:
            self._socket = socket.create_connection((HOST, self._port), timeout=PATIENCE)
            self._socket.settimeout(SILENCE)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in pieces:
            try:
                self._socket.sendall(piece)
            except (ConnectionError, TimeoutError):
                return
            if len(pieces) > 1:
                time.sleep(PACE)

    def _answer(self) -> tuple[int, int, bytes]:
        """Read one answer: status, size, header. Raises ConnectionError if none comes."""
        while (found := _HEAD.match(self._received)) is None:
            self._receive()
        status, head, size = int(found[1]), found[2], found.end()
        if status == 100:
            self._received = self._received[size:]
            return self._answer()
        length = _LENGTH.search(head)
        size += int(length[1]) if length else 0
        while len(self._received) < size:
            self._receive()
        self._received = self._received[size:]
        if b"connection: close" in head.lower():
            self.close()
        return status, size, head

    def _receive(self) -> None:
        """Wait for bytes as long as the service works on them. Raises ConnectionError."""
        if self._socket is None:
            raise ConnectionError
        before = cpu_time(self._pid)
        try:
            data = self._socket.recv(65_536)
        except TimeoutError:
            if cpu_time(self._pid) - before < IDLE:
                raise ConnectionError from None
            return
        if not data:
            raise ConnectionError
        self._received += data

    def _open_session(self, path: bytes, body: bytes) -> None:
        """Register or log in on a new connection. Raises NoStartError."""
        self.close()
        self._send((message(b"POST", path, self._visitor(), body=body),))
        status, _, head = self._answer()
        if status not in {200, 201}:
            raise NoStartError(f"POST {path.decode()} was answered {status}")
        tokens = dict(re.findall(rb"__Host-(\w+)=([^;]+);", head))
        self._token, self._device = tokens[b"jwt"], tokens[b"device"]
        self._opened = time.monotonic()
