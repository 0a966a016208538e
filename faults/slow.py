"""Check that a normal client is answered while slow and hostile clients attack by the thousand.

`python -m faults.slow` runs slowhttptest (a Debian package) against the service in its header, body
and read modes; a flood of silent connections that reconnect whenever they are closed; and
connections that request more than the kernel buffers, and read none of it. Meanwhile a normal
client sends requests, over one kept-alive connection and over a new one for each, and logs in now
and then. The script prints how many it sent, how many failed, and how long they took. It fails on
a failed request, fewer answers than FEWEST_A_SECOND, an attack that did not run, and a fault in
the log.
"""

from __future__ import annotations

import argparse
import json
import re
import resource
import selectors
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from faults.harness import HOST, conclude, positive, start

USER = {"username": "crispengari", "email": "crispengari@gmail.com", "password": "crispengari"}
LOGIN = json.dumps({"usernameOrEmail": USER["username"], "password": USER["password"]})
JSON = {"Content-Type": "application/json"}
FAULT = re.compile(r"^Traceback| (ERROR|CRITICAL) ")
CONNECTED = re.compile(r"connected: +(?:\x1b\[[0-9;]*m +)?([0-9]+)")  # its output has colours
PAUSE = 0.01  # seconds between two requests of a normal client
LOGIN_EACH = 50  # requests
FEWEST_A_SECOND = 2  # answers to each normal client
PATIENCE = 5  # seconds that a normal client waits for an answer
SPARE_FILES = 100
ASKED = 60  # requests of a connection that reads nothing: more than the kernel buffers answers for
SLOW_TOOL = "slowhttptest"
MODES = {
    "header": ("-H", "-t", "GET", "-i", "3", "-x", "24"),
    "body": ("-B", "-t", "POST", "-f", "application/json", "-s", "8192", "-i", "3", "-x", "10"),
    "read": ("-X", "-w", "1", "-y", "16", "-n", "5", "-z", "1", "-k", "5"),
}


class NoAttackError(Exception):
    """The attack did not work. The text says why."""


@dataclass
class Client:
    """A normal client, and its results."""

    port: int
    cookie: str
    keeps_alive: bool
    seconds: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Send requests until the end."""
        connection, number = self._connection(), 0
        while not self.ended.wait(PAUSE):
            number += 1
            began = time.monotonic()
            try:
                self._ask(connection, logs_in=number % LOGIN_EACH == 0)
                self.seconds.append(time.monotonic() - began)
            except (OSError, HTTPException) as error:
                self.failures.append(type(error).__name__)
                connection.close()
            if not self.keeps_alive:
                connection.close()

    def _connection(self) -> HTTPConnection:
        return HTTPConnection(HOST, self.port, timeout=PATIENCE)

    def _ask(self, connection: HTTPConnection, *, logs_in: bool) -> None:
        if logs_in:
            connection.request("POST", "/login", LOGIN, JSON)
        else:
            connection.request("GET", "/user", headers={"Cookie": self.cookie})
        with connection.getresponse() as answer:
            answer.read()
            if answer.status != 200:
                raise HTTPException(answer.status)

    def __str__(self) -> str:
        """Return its results as one line."""
        took = sorted(self.seconds) or [0.0]
        p50, p99 = took[len(took) // 2] * 1_000, took[len(took) * 99 // 100] * 1_000
        how = "one connection" if self.keeps_alive else "a new one each"
        kinds = f" ({', '.join(sorted(set(self.failures)))})" if self.failures else ""
        return (
            f"{how:>15}: {len(self.seconds):6,} answered, {len(self.failures):4,} failed{kinds}, "
            f"p50 {p50:6.1f} ms, p99 {p99:6.1f} ms, longest {took[-1] * 1_000:6.1f} ms"
        )


@contextmanager
def asking(port: int, cookie: str) -> Iterator[list[Client]]:
    """Run both kinds of normal client while the block runs."""
    clients = [Client(port, cookie, keeps_alive) for keeps_alive in (True, False)]
    threads = [threading.Thread(target=client.run) for client in clients]
    for thread in threads:
        thread.start()
    try:
        yield clients
    finally:
        for client in clients:
            client.ended.set()
        for thread in threads:
            thread.join()


def slow(port: int, mode: str, connections: int, seconds: float) -> str:
    """Attack with slowhttptest; return its peak of connections. Raises NoAttackError."""
    path = "login" if mode == "body" else "user"
    command = [SLOW_TOOL, *MODES[mode], "-c", str(connections), "-r", "500", "-p", "3"]
    command += ["-l", str(round(seconds)), "-u", f"http://{HOST}:{port}/{path}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    most = max(map(int, CONNECTED.findall(done.stdout)), default=0)
    if done.returncode or most < connections / 2:
        raise NoAttackError(f"{SLOW_TOOL} had {most} connections, status {done.returncode}")
    return f"{most} connections at once"


def flood(port: int, connections: int, seconds: float) -> str:
    """Hold connections that send nothing, and replace each that is closed."""
    opened, end = 0, time.monotonic() + seconds
    with selectors.DefaultSelector() as held:
        while time.monotonic() < end:
            while len(held.get_map()) < connections:
                connection = socket.socket()
                connection.setblocking(False)  # noqa: FBT003 - socket's own
                with suppress(BlockingIOError):
                    connection.connect((HOST, port))
                held.register(connection, selectors.EVENT_READ)
                opened += 1
                if opened % 50 == 0:
                    break
            for key, _ in held.select(0.02):
                connection = key.fileobj  # type: ignore[assignment] # we gave it sockets
                held.unregister(connection)
                connection.close()
        for key in list(held.get_map().values()):
            key.fileobj.close()  # type: ignore[union-attr] # the same
    return f"{opened:,} connections opened"


def read_nothing(port: int, connections: int, seconds: float) -> str:
    """Hold connections that requested more than the kernel buffers, and read none of it."""
    opened, end = 0, time.monotonic() + seconds
    with ExitStack() as held:
        while opened < connections and time.monotonic() < end:
            connection = held.enter_context(socket.socket())
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2_048)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 536)
            connection.settimeout(PATIENCE)
            with suppress(OSError):
                connection.connect((HOST, port))
                connection.sendall(b"GET /user HTTP/1.1\r\nHost: x\r\n\r\n" * ASKED)
                opened += 1
        time.sleep(max(0, end - time.monotonic()))
    return f"{opened:,} connections opened"


FLOODS: dict[str, Callable[[int, int, float], str]] = {"flood": flood, "unread": read_nothing}


def register(port: int) -> str:
    """Register the user; return the cookie."""
    with closing(HTTPConnection(HOST, port, timeout=PATIENCE)) as connection:
        connection.request("POST", "/register", json.dumps(USER), JSON)
        return connection.getresponse().headers["Set-Cookie"].partition(";")[0]


def attack(port: int, mode: str, connections: int, seconds: float) -> str:
    """Attack in a mode; return a description. Raises NoAttackError."""
    if mode in FLOODS:
        return FLOODS[mode](port, connections, seconds)
    if mode == "calm":
        time.sleep(seconds)
        return ""
    return slow(port, mode, connections, seconds)


def run(workers: int, connections: int, seconds: float) -> list[str]:
    """Run calm, then each attack; print the clients' results. Return what is broken."""
    broken = []
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory)
        service = start(folder, AUTHAPI_WORKERS=str(workers))
        try:
            cookie = register(service.port)
            for mode in ["calm", *MODES, *FLOODS]:
                with asking(service.port, cookie) as clients:
                    said = attack(service.port, mode, connections, seconds)
                print(f"{workers} worker{'s'[: workers > 1]}, {mode}: {said}")
                print(*clients, sep="\n", flush=True)
                for client in clients:
                    broken += [f"{mode}: {failure}" for failure in client.failures]
                    if len(client.seconds) < FEWEST_A_SECOND * seconds:
                        broken.append(f"{mode}: but {len(client.seconds)} answers")
        except NoAttackError as error:
            broken.append(f"{mode}: {error}")
        finally:
            service.stop()
        lines = (folder / "log").read_text().splitlines()
        return broken + [line for line in lines if FAULT.search(line)]


def main() -> int:
    """Run all attacks against one process and against two workers."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--connections", type=positive, default=1_000, help="of an attack (1000)")
    options.add_argument("--seconds", type=positive, default=20, help="of each attack (20)")
    options.add_argument("--workers", type=positive, nargs="+", default=[1, 2], help="(1 2)")
    given = options.parse_args()
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if not shutil.which(SLOW_TOOL):
        print(f"slow: {SLOW_TOOL} is not installed (apt-get install {SLOW_TOOL})")
        return 2
    if given.connections + SPARE_FILES > files:
        print(f"slow: the limit of {files} open files is too low for so many connections")
        return 2
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    return max([conclude(run(each, given.connections, given.seconds)) for each in given.workers])


if __name__ == "__main__":
    sys.exit(main())
