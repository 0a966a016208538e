"""Slow and hostile clients, by the thousand: is a normal client answered meanwhile?

`python -m faults.slow` runs slowhttptest (a Debian package) against the service in its header, body
and read modes, and a flood of silent connections that come again whenever they are closed. A normal
client asks meanwhile, over one kept-alive connection and with a new one for each request, and logs
in now and then. Printed: how many it asked, how many of them failed, and how long they took.
"""

from __future__ import annotations

import argparse
import json
import re
import selectors
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from faults.harness import HOST, start

USER = {"username": "crispengari", "email": "crispengari@gmail.com", "password": "crispengari"}
LOGIN = json.dumps({"usernameOrEmail": USER["username"], "password": USER["password"]})
JSON = {"Content-Type": "application/json"}
FAULT = re.compile(r"^Traceback| (ERROR|CRITICAL) ")
PAUSE = 0.01  # seconds between two requests of a normal client
LOGIN_EACH = 50  # requests
PATIENCE = 5  # seconds that a normal client waits for an answer
SLOW_TOOL = "slowhttptest"
MODES = {
    "header": ("-H", "-t", "GET", "-i", "3", "-x", "24"),
    "body": ("-B", "-t", "POST", "-f", "application/json", "-s", "8192", "-i", "3", "-x", "10"),
    "read": ("-X", "-w", "1", "-y", "16", "-n", "5", "-z", "1", "-k", "5"),
}


@dataclass
class Client:
    """A normal client, and how it fared."""

    port: int
    cookie: str
    keeps_alive: bool
    seconds: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Ask until the end."""
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
        """Its fate, in one line."""
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
    """Have both kinds of normal client ask meanwhile."""
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
    """Attack with slowhttptest; give its own last words on the service."""
    path = "login" if mode == "body" else "user"
    command = [SLOW_TOOL, *MODES[mode], "-c", str(connections), "-r", "500", "-p", "3"]
    command += ["-l", str(round(seconds)), "-u", f"http://{HOST}:{port}/{path}"]
    output = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    words = ("connected:", "closed:", "service available:")
    lines = [line.strip() for line in output.splitlines() if line.strip().startswith(words)]
    return ", ".join(" ".join(line.split()) for line in lines[-3:])


def flood(port: int, connections: int, seconds: float) -> int:
    """Hold connections whose headers never end, and open another for each that is closed.

    Returns how many were opened.
    """
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
    return opened


def register(port: int) -> str:
    """Register the user; give the cookie."""
    with closing(HTTPConnection(HOST, port, timeout=PATIENCE)) as connection:
        connection.request("POST", "/register", json.dumps(USER), JSON)
        return connection.getresponse().headers["Set-Cookie"].partition(";")[0]


def attack(port: int, mode: str, connections: int, seconds: float) -> str:
    """Attack in a mode; give what there is to say of it."""
    if mode == "flood":
        return f"{flood(port, connections, seconds):,} connections opened"
    if mode == "calm":
        time.sleep(seconds)
        return ""
    return slow(port, mode, connections, seconds)


def run(workers: int, connections: int, seconds: float) -> bool:
    """Calm, then each attack; print how the clients fared. Returns whether all were answered."""
    modes = [*MODES, "flood"] if shutil.which(SLOW_TOOL) else ["flood"]
    failed = 0
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory)
        service = start(folder, AUTHAPI_WORKERS=str(workers))
        cookie = register(service.port)
        for mode in ["calm", *modes]:
            with asking(service.port, cookie) as clients:
                said = attack(service.port, mode, connections, seconds)
            print(f"{workers} worker{'s'[: workers > 1]}, {mode}: {said}")
            print(*clients, sep="\n")
            failed += sum(len(client.failures) for client in clients)
        service.stop()
        faults = [line for line in (folder / "log").read_text().splitlines() if FAULT.search(line)]
    print(f"faults in the log: {len(faults)}", *faults[:5], sep="\n")
    return not (failed or faults)


def main() -> None:
    """Run all attacks against one process and against two workers."""
    parser = argparse.ArgumentParser(prog="python -m faults.slow", description=__doc__)
    parser.add_argument("--connections", type=int, default=1_000)
    parser.add_argument("--seconds", type=float, default=20, help="of each attack")
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 2])
    options = parser.parse_args()
    if not shutil.which(SLOW_TOOL):
        print(f"{SLOW_TOOL} is not installed (apt-get install {SLOW_TOOL}): only the flood is run.")
    each = [run(workers, options.connections, options.seconds) for workers in options.workers]
    sys.exit(not all(each))


if __name__ == "__main__":
    main()
