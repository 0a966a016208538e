"""A service with several workers, and what the tests of workers ask about its processes."""

import http.client
import json
import re
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from conftest import RUN, USER, eventually, start

EXEC = "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"

IN_A_GROUP = ("-c", f"import os, sys; os.setsid(); {EXEC}", RUN)

GET = b"GET /user HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"

LISTENS, IS_OPEN = "0A", "01"

QUICKLY = "from authapi.server import worker, workers; worker.FIRST_PAUSE = 0.001\n"
OF_ITS_OWN = f"""{QUICKLY}
import os, signal, sys
from authapi.server import process
from authapi.commands.cli import main
from authapi.errors import StartError

def fall(*_):
    %s

process.listen_beside = fall
sys.exit(main(["serve"]))
"""


def children(pid):
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return {int(child) for child in text.split()}


def is_gone(pid):
    """Return whether a process has ended; an orphan may still be a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].startswith("Z")
    except (FileNotFoundError, ProcessLookupError):
        return True


def descriptors(pid):
    """Return the open files of a process."""
    found = []
    for path in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            found.append(str(path.readlink()))
    return found


def sockets(pid, state, port, peer=None):
    """Return the sockets of a process on a port in a state, by their inodes."""
    own = {name for name in descriptors(pid) if name.startswith("socket:")}
    found = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, remote, its_state, *rest = line.split()
        here, there = (int(address.partition(":")[2], 16) for address in (local, remote))
        if (its_state, here) == (state, port) and peer in (None, there):
            found.add(f"socket:[{rest[5]}]")
    return own & found


class Service:
    """A service with workers that runs."""

    def __init__(self, parent, port, line):
        self.parent = parent
        self.port = port
        self.line = line

    @property
    def workers(self):
        return children(self.parent.pid)

    def listening(self):
        return {pid for pid in self.workers if sockets(pid, LISTENS, self.port)}

    @contextmanager
    def each(self):
        """Return a connection to each worker, by its pid."""
        with ExitStack() as stack:
            found = {}

            def connect():
                connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
                stack.callback(connection.close)
                connection.connect()
                peer = connection.sock.getsockname()[1]
                found[eventually(lambda: self.owner(peer))] = connection
                return set(found) == self.workers

            eventually(connect)
            yield found

    def owner(self, peer):
        return next((pid for pid in self.workers if sockets(pid, IS_OPEN, self.port, peer)), None)

    def wait_for_end(self):
        """Wait for the end; return the exit status and the log."""
        _, log = self.parent.communicate()
        return self.parent.returncode, log


@contextmanager
def serving(folder, count=2, run=(RUN,), **environ):
    parent = start(folder, run=run, **{"AUTHAPI_WORKERS": str(count), **environ})
    try:
        line = parent.stdout.readline()
        yield Service(parent, int(re.search(r":(\d+),", line)[1]), line)
    finally:
        parent.kill()
        parent.communicate()


def ask(connection, method, path, body=None, **headers):
    headers = {"Content-Type": "application/json", **headers}
    connection.request(method, path, None if body is None else json.dumps(body), headers)
    answer = connection.getresponse()
    return answer.status, json.loads(answer.read()), answer.headers


def run_program(folder, text, **environ):
    """Start a program of a test's own."""
    return start(folder, run=("-c", text), **environ)


@contextmanager
def requests_on_the_way(service):
    """Send a registration to each worker, without its last byte."""
    with service.each() as connections:
        arriving = []
        for number, connection in enumerate(connections.values()):
            name = f"user{number}"
            body = json.dumps({**USER, "username": name, "email": f"{name}@example.com"}).encode()
            connection.sock.sendall(
                b"POST /register HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                b"Content-Length: %d\r\nExpect: 100-continue\r\n\r\n" % len(body)
            )
            assert connection.sock.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
            connection.sock.sendall(body[:-1])
            arriving.append((connection.sock, body[-1:]))
        yield arriving


def finish(arriving):
    """Send the last bytes; return the statuses of the requests."""
    for connection, rest in arriving:
        connection.sendall(rest)
    return [connection.recv(65_536)[9:12] for connection, _ in arriving]
