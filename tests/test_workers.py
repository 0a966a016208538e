"""Several workers: the service as processes, with real sockets, signals and a real database."""

import http.client
import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

import pytest
from conftest import RUN, USER, eventually, exchange, process, start

from authapi import Settings
from authapi.errors import StartError
from authapi.machine import available_cpus
from authapi.server import Bounds, streams, workers
from authapi.server.listeners import hold, listen, listen_beside
from authapi.server.worker import LONGEST_PAUSE, SOON, Readiness, Worker

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="workers need Linux")

EXEC = "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
IN_A_GROUP = ("-c", f"import os, sys; os.setsid(); {EXEC}", RUN)
GET = b"GET /user HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
LISTENS, IS_OPEN = "0A", "01"


def children(pid):
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return {int(child) for child in text.split()}


def is_gone(pid):
    """Whether a process has ended; one without a parent may not be buried yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].startswith("Z")
    except (FileNotFoundError, ProcessLookupError):
        return True


def descriptors(pid):
    """What a process has open."""
    found = []
    for path in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            found.append(str(path.readlink()))
    return found


def sockets(pid, state, port, peer=None):
    """The sockets of a process on a port in a state, by their inodes."""
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
        """A connection to each worker, by its pid."""
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
        """The exit status and the log."""
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
    """A registration to each worker, of which the last byte is still to come."""
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
    """The statuses of requests that get their last byte."""
    for connection, rest in arriving:
        connection.sendall(rest)
    return [connection.recv(65_536)[9:12] for connection, _ in arriving]


def test_workers_answer(tmp_path):
    """Each worker listens on a socket of its own, and answers; the start says one line."""
    with serving(tmp_path, 3, AUTHAPI_HASH_SLOTS="1") as service:
        parent, workers = service.parent.pid, service.workers
        listeners = [sockets(pid, LISTENS, service.port) for pid in workers]
        assert [len(found) for found in listeners] == [1, 1, 1]
        assert len(set.union(*listeners)) == 3
        assert not sockets(parent, LISTENS, service.port)
        with service.each() as connections:
            assert set(connections) == workers
            for connection in connections.values():
                assert ask(connection, "GET", "/user")[0] == 401
        service.parent.terminate()
        status, log = service.wait_for_end()

    assert service.line == (
        f"authapi listens on http://127.0.0.1:{service.port}, database {tmp_path}/authapi.db, "
        f"SQLite {sqlite3.sqlite_version}, memory up to 363 MiB (360 + 3 workers x 1 hash slot x 1)"
        "\n"
    )
    assert status == 0
    assert log.count("\n") == log.count("below what OWASP recommends") == 1
    assert all(is_gone(pid) for pid in workers)


def test_sessions_hold_in_all_workers(tmp_path):
    """A session of one worker is good in all, and dead in all as soon as one has ended it."""
    with serving(tmp_path) as service, service.each() as connections:
        one, other = connections.values()
        _, _, headers = ask(one, "POST", "/register", USER)
        cookie = headers["Set-Cookie"].partition(";")[0]
        token = f"Cookie: {cookie}\r\nConnection: close\r\n\r\n".encode()
        check = GET.replace(b"Connection: close\r\n\r\n", token)
        assert ask(other, "POST", "/register", USER)[1]["error"] == "username_taken"
        assert [ask(each, "GET", "/user", Cookie=cookie)[0] for each in (one, other)] == [200, 200]
        assert all(b" 200 OK" in exchange(service.port, check) for _ in range(20))
        assert ask(other, "POST", "/logout", {}, Cookie=cookie)[0] == 200
        assert [ask(each, "GET", "/user", Cookie=cookie)[0] for each in (one, other)] == [401, 401]
        assert all(b" 401 " in exchange(service.port, check) for _ in range(20))


def test_writers_in_all_workers(tmp_path):
    """Registrations in all workers at once are each kept, once."""

    def register(number):
        name = f"user{number // 2}"
        body = json.dumps({**USER, "username": name, "email": f"{name}@example.com"}).encode()
        request = (
            b"POST /register HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\nConnection: close\r\n\r\n" % len(body)
        )
        while (status := exchange(service.port, request + body)[9:12]) == b"503":
            pass
        return status

    off = {"AUTHAPI_RATE_LIMITS": "off"}
    with serving(tmp_path, 4, **off) as service, ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(register, range(60)))

    assert sorted(statuses) == [b"201"] * 30 + [b"409"] * 30
    with closing(sqlite3.connect(tmp_path / "authapi.db")) as database:
        assert database.execute("SELECT count(*) FROM users").fetchone() == (30,)
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGKILL, -9), (signal.SIGTERM, 0)])
def test_a_fallen_worker(tmp_path, number, status):
    """A worker that ends, by a signal or by itself, is started again; the others go on."""
    with serving(tmp_path) as service:
        before = service.workers
        fallen = min(before)
        with service.each() as connections:
            os.kill(fallen, number)
            eventually(lambda: fallen not in service.workers)
            (other,) = (each for pid, each in connections.items() if pid != fallen)
            assert ask(other, "GET", "/user")[0] == 401
        after = eventually(lambda: len(found := service.listening()) == 2 and found)
        assert len(before & after) == 1
        with service.each() as connections:
            assert [ask(each, "GET", "/user")[0] for each in connections.values()] == [401, 401]
        service.parent.terminate()
        returned, log = service.wait_for_end()

    assert returned == 0
    assert re.search(
        rf" ERROR authapi.workers worker [12] ended with status {status}: "
        r"it is started again in 0.2 s\n",
        log,
    )


def test_a_fallen_worker_has_the_keys_of_the_others(tmp_path):
    """A key that is put into the file meanwhile counts from the next start, for all workers."""
    with serving(tmp_path) as service:
        with service.each() as connections:
            (tmp_path / "authapi.db.key").write_text("no key at all")
            fallen = min(connections)
            os.kill(fallen, signal.SIGKILL)
        eventually(lambda: fallen not in service.workers and len(service.listening()) == 2)
        service.parent.terminate()
        returned, log = service.wait_for_end()

    assert returned == 0
    assert log.count("is started again") == 1


def test_interrupt_of_a_worker(tmp_path):
    """A terminal's Ctrl-C comes to all: only the parent does what it says."""
    with serving(tmp_path) as service:
        workers = service.workers
        for pid in workers:
            os.kill(pid, signal.SIGINT)
            os.kill(pid, signal.SIGHUP)
        with service.each() as connections:
            assert [ask(each, "GET", "/user")[0] for each in connections.values()] == [401, 401]
        assert workers == service.workers


@pytest.mark.parametrize(
    ("number", "to_all"),
    [
        (signal.SIGTERM, False),
        (signal.SIGTERM, True),
        (signal.SIGINT, True),
        (signal.SIGHUP, True),
    ],
)
def test_a_stop(tmp_path, number, to_all):
    """A stop lets the requests of all workers finish; then they are gone, with exit status 0.

    It comes to the parent, or to the group: from a terminal, or from systemd.
    """
    with serving(tmp_path, run=IN_A_GROUP) as service, requests_on_the_way(service) as arriving:
        workers = service.workers
        if to_all:
            os.killpg(service.parent.pid, number)
        else:
            service.parent.send_signal(number)
        eventually(lambda: not service.listening())
        assert finish(arriving) == [b"201", b"201"]
        status, log = service.wait_for_end()

    assert status == 0
    assert log.count(" INFO authapi.events registered ") == 2
    assert log.count("\n") == 3
    assert all(is_gone(pid) for pid in workers)
    with closing(sqlite3.connect(tmp_path / "authapi.db")) as database:
        assert database.execute("SELECT count(*) FROM users").fetchone() == (2,)


def test_a_second_signal(tmp_path):
    """A second signal waits for nobody, and the exit status tells that requests were cut off."""
    with serving(tmp_path) as service, requests_on_the_way(service) as arriving:
        workers = service.workers
        service.parent.terminate()
        eventually(lambda: not service.listening())
        assert service.workers == workers  # they wait for the last byte
        service.parent.send_signal(signal.SIGINT)
        status, log = service.wait_for_end()
        for connection, _ in arriving:
            with suppress(ConnectionResetError):
                assert connection.recv(1) == b""

    assert status == 1
    assert "workers that have not stopped are killed\n" in log
    assert log.endswith("were killed, and their requests with them.\n")
    assert all(is_gone(pid) for pid in workers)


def test_a_parent_that_is_killed(tmp_path):
    """Workers whose parent is killed finish their requests, and end by themselves."""
    with serving(tmp_path) as service, requests_on_the_way(service) as arriving:
        workers = service.workers
        service.parent.kill()
        service.parent.wait()
        eventually(lambda: not any(sockets(pid, LISTENS, service.port) for pid in workers))
        assert finish(arriving) == [b"201", b"201"]
        eventually(lambda: all(is_gone(pid) for pid in workers))
    with process(tmp_path, AUTHAPI_PORT=str(service.port)) as (_, url):  # the port is free again
        assert url.endswith(f":{service.port}")


@pytest.mark.parametrize(("first", "second"), [("1", "2"), ("2", "1"), ("2", "2")])
def test_a_second_service_on_the_port(tmp_path, first, second):
    """A second service on the port is refused, whether it or the first one has several workers."""
    with process(tmp_path, AUTHAPI_WORKERS=first) as (_, url):
        port = url.rpartition(":")[2]
        other = start(tmp_path, AUTHAPI_PORT=port, AUTHAPI_WORKERS=second)
        output, error = other.communicate()
        assert b" 401 " in exchange(int(port), GET)

    assert (output, other.returncode) == ("", 1)
    assert error == (
        f"authapi: Cannot listen on 127.0.0.1:{port} (Address already in use): "
        "stop what listens there, or set another AUTHAPI_HOST or AUTHAPI_PORT.\n"
    )


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "localhost"])
def test_a_port_that_is_held(host):
    """A held port is nobody else's, also before a worker listens and after the last one does."""
    settings = Settings(host=host, port=0)
    with closing(hold(settings)) as holder:
        settings = settings.on_port(holder.getsockname()[1])

        def assert_held():
            for take in (listen, hold):
                with pytest.raises(StartError, match="Address already in use"):
                    take(settings)

        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", settings.port))
        assert_held()
        for _ in range(2):
            with closing(listen_beside(holder, settings)) as one:
                listen_beside(holder, settings).close()
                assert one.getsockname() == holder.getsockname()
                assert_held()
            assert_held()
    with closing(listen(settings)) as alone:
        with pytest.raises(StartError, match="Address already in use"):
            hold(settings)
        with pytest.raises(StartError, match="Address already in use"):
            listen_beside(alone, settings)


@pytest.mark.parametrize(
    ("environ", "says"),
    [
        ({"AUTHAPI_DATABASE_URL": f"sqlite:///{RUN}"}, "is no SQLite database"),
        ({"AUTHAPI_HOST": "203.0.113.1"}, "Cannot listen on 203.0.113.1"),
    ],
)
def test_refused_starts(tmp_path, environ, says):
    """What is wrong with a start of several workers is said once."""
    service = start(tmp_path, **{"AUTHAPI_WORKERS": "3", **environ})
    output, error = service.communicate()

    assert (output, service.returncode, error.count("\n")) == ("", 1, 1)
    assert error.startswith("authapi: ")
    assert says in error


def test_a_worker_for_each_cpu(tmp_path):
    """`auto` is a worker for each CPU; where there is one, it is the only process."""
    cpus = available_cpus()

    with serving(tmp_path, "auto") as service:
        assert len(service.workers) == (cpus if cpus > 1 else 0)
        assert b" 401 " in exchange(service.port, GET)


QUICKLY = "from authapi.server import worker, workers; worker.FIRST_PAUSE = 0.001\n"
OF_ITS_OWN = f"""{QUICKLY}
import os, signal, sys
from authapi.server import process
from authapi.cli import main
from authapi.errors import StartError

def fall(*_):
    %s

process.listen_beside = fall
sys.exit(main(["serve"]))
"""


@pytest.mark.parametrize(
    ("fall", "status", "says"),
    [
        ("raise ValueError('so it is')", 1, "ValueError: so it is"),
        ("raise StartError('So it is.')", 1, "ERROR authapi.workers So it is."),
        ("sys.exit('so it is')", 1, "SystemExit: so it is"),
        ("os.kill(os.getpid(), signal.SIGKILL)", -9, ""),
    ],
)
def test_workers_that_fall_at_once(tmp_path, fall, status, says):
    """Where all workers fall, again and again, the parent gives up loudly."""
    service = run_program(tmp_path, OF_ITS_OWN % fall, AUTHAPI_WORKERS="2")
    output, log = service.communicate()

    assert (output, service.returncode) == ("", 1)
    assert log.splitlines()[-1] == (
        "authapi: The workers fall as soon as they start: the log above says why."
    )
    assert re.search(rf"worker [12] ended with status {status}\n", log)
    assert log.count(f"ended with status {status}: it is started again") >= 8
    assert says in log


def test_a_stop_before_workers_are_ready(tmp_path):
    """A signal that comes while workers still start ends them and the start, and says nothing."""
    service = run_program(tmp_path, OF_ITS_OWN % "signal.pause()", AUTHAPI_WORKERS="2")
    workers = eventually(lambda: len(found := children(service.pid)) == 2 and found)
    service.terminate()
    output, log = service.communicate()

    assert (output, log, service.returncode) == ("", "", -signal.SIGTERM)
    assert all(is_gone(pid) for pid in workers)


def test_workers_that_are_ready_too_late(tmp_path):
    """A service that stops does not say that it listens."""
    program = (
        "import signal, sys\n"
        "from authapi.server.workers import Workers\n"
        "def work(ready):\n"
        "    signal.signal(signal.SIGTERM, lambda *_: (ready(), sys.exit()))\n"
        "    print('waits', flush=True)\n"
        "    signal.pause()\n"
        "Workers(1, work).run(lambda: print('ready'))\n"
    )
    service = run_program(tmp_path, program)
    assert service.stdout.readline() == "waits\n"
    service.terminate()
    output, _ = service.communicate()

    assert (output, service.returncode) == ("", -signal.SIGTERM)


def takes_signals(status):
    return re.search(r"^SigBlk:\s0+$", status, re.MULTILINE)


def test_what_workers_inherit(tmp_path):
    """Workers hold nothing that is the parent's. No thread blocks signals that answers requests."""
    database = [f"{tmp_path}/authapi.db{suffix}" for suffix in ("", "-shm", "-wal")]
    with serving(tmp_path) as service:
        for pid in service.workers:
            found = descriptors(pid)
            assert len([name for name in found if name.startswith("socket:")]) == 1
            assert sorted(name for name in found if name.startswith(str(tmp_path))) == database
            tasks = list(Path(f"/proc/{pid}/task").glob("*/status"))
            takers = {path.parent.name for path in tasks if takes_signals(path.read_text())}
            assert str(pid) in takers
            assert len(takers) > 16  # all but the one that waits for the end of the parent
        found = descriptors(service.parent.pid)
        assert len([name for name in found if name.startswith("socket:")]) == 1
        assert not [name for name in found if name.startswith(str(tmp_path))]


def signals(status):
    return re.findall(r"^Sig(?:Blk|Ign):.*$", status, re.MULTILINE)


def test_what_a_worker_executes(tmp_path):
    """A program that a worker executes has the signals of one that anybody executes."""
    show = ("cat", "/proc/self/status")
    program = (
        "import signal, subprocess\n"
        "from authapi.server.workers import Workers\n"
        "def work(ready):\n"
        f"    subprocess.run({show!r}, check=True)\n"
        "    signal.pause()\n"
        "Workers(1, work).run(print)\n"
    )
    service = run_program(tmp_path, program)
    text = ""
    while "nonvoluntary" not in text:  # the last line
        text += service.stdout.readline()
    service.terminate()
    service.communicate()

    assert len(signals(text)) == 2
    assert signals(text) == signals(subprocess.check_output(show, text=True))


def test_a_starter_that_ignores_its_children(tmp_path):
    """Where SIGCHLD is ignored by who starts the service, a fallen worker is still noticed."""
    program = f"import os, signal, sys; signal.signal(signal.SIGCHLD, signal.SIG_IGN); {EXEC}"
    with serving(tmp_path, run=("-c", program, RUN)) as service:
        fallen = min(service.workers)
        os.kill(fallen, signal.SIGKILL)
        eventually(lambda: fallen not in service.workers and len(service.listening()) == 2)
        service.parent.terminate()
        assert service.wait_for_end()[0] == 0


def test_output_that_is_kept_back(tmp_path):
    """What was printed before the fork is written once, and what a worker prints is not lost."""
    program = (
        "import os, signal\n"
        "from authapi.server.workers import Workers\n"
        "def work(ready):\n"
        "    print('a worker')\n"
        "    signal.signal(signal.SIGTERM, lambda *_: None)\n"
        "    ready()\n"
        "    signal.pause()\n"
        "print('before')\n"
        "Workers(2, work).run(lambda: os.kill(os.getpid(), signal.SIGTERM))\n"
    )
    service = run_program(tmp_path, program, PYTHONUNBUFFERED="")
    output, _ = service.communicate()

    assert service.returncode == 0
    assert output == "before\na worker\na worker\n"


def test_a_fork_that_is_refused(tmp_path):
    """Where the system refuses a process, it is asked for again."""
    program = f"""{QUICKLY}
import errno, logging, os, signal
logging.basicConfig()
fork, times = os.fork, iter(range(100))
def refuse():
    if next(times) in (1, 2):
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
    return fork()
os.fork = refuse
def work(ready):
    ready()
    signal.pause()
workers.Workers(2, work).run(lambda: os.kill(os.getpid(), signal.SIGTERM))
"""
    service = run_program(tmp_path, program)
    output, log = service.communicate()

    assert (output, service.returncode) == ("", 0)
    assert log.count("worker 2 cannot be started (Resource temporarily unavailable): ") == 2


STUBBORN = """
import logging, os, signal
from authapi.server import workers
logging.basicConfig()
workers.STOP_DEADLINE = 0.05
def work(ready):
    signal.signal(signal.SIGTERM, lambda *_: print("no", flush=True))
    ready()
    while True:
        signal.pause()
workers.Workers(1, work).run(lambda: print("ready", flush=True))
"""


def test_a_worker_that_does_not_stop(tmp_path):
    """A worker that does not stop in time is killed."""
    service = run_program(tmp_path, STUBBORN)
    assert service.stdout.readline() == "ready\n"
    (worker,) = children(service.pid)
    service.terminate()
    output, log = service.communicate()

    assert (output, service.returncode) == ("no\n", 1)
    assert "workers that have not stopped are killed\n" in log
    assert is_gone(worker)


def test_deadlines_of_a_stop():
    """A worker has its time for requests, threads and log lines; a container kills after all."""
    assert Bounds().drain + 1 + streams.DRAIN_DEADLINE < workers.STOP_DEADLINE
    assert workers.STOP_DEADLINE + streams.DRAIN_DEADLINE < 10


def test_a_worker_that_does_not_stop_with_its_parent(tmp_path):
    """A worker that does not stop when its parent was killed kills itself."""
    service = run_program(tmp_path, STUBBORN)
    assert service.stdout.readline() == "ready\n"
    (worker,) = children(service.pid)
    service.kill()
    output, _ = service.communicate()  # returns when nobody can write any more

    assert output == "no\n"
    eventually(lambda: is_gone(worker))


def test_strangers_children(tmp_path):
    """As process 1 of a container, the parent buries whoever is left to it."""
    program = """
import ctypes, signal, subprocess
from authapi.server.workers import Workers
PR_SET_CHILD_SUBREAPER = 36
ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
def work(ready):
    ready()
    subprocess.run(["sh", "-c", "sleep 1000 >/dev/null 2>&1 & echo $!"])
    signal.pause()
Workers(1, work).run(lambda: None)
"""
    service = run_program(tmp_path, program)
    orphan = int(service.stdout.readline())
    eventually(lambda: orphan in children(service.pid))
    (worker,) = children(service.pid) - {orphan}
    os.kill(orphan, signal.SIGTERM)
    eventually(lambda: children(service.pid) == {worker})
    service.terminate()
    assert service.communicate() == ("", "")
    assert service.returncode == 0


def test_pauses():
    """The pause before a new start grows with each fall, up to its limit, and for any number."""
    worker = Worker(0, began=100.0)
    pauses = []
    for falls in (0, 1, 2, 5, 6, 5_000):
        worker.falls = falls
        pauses.append((worker.fall(100.0), worker.due))

    longest = (LONGEST_PAUSE, 100 + LONGEST_PAUSE)
    assert pauses == [(0.2, 100.2), (0.4, 100.4), (0.8, 100.8), (6.4, 106.4), longest, longest]
    assert worker.fall(100.0 + SOON) == 0
    assert (worker.falls, worker.due) == (0, 100.0 + SOON)


@pytest.mark.parametrize(
    ("worker", "never"),
    [
        (Worker(0, falls=5), True),  # it waits for its next start
        (Worker(0, pid=1, began=100.0, falls=5), True),  # it has just started
        (Worker(0, pid=1, began=100.0 - SOON, falls=5), False),  # it has run for long
        (Worker(0, falls=4), False),
        (Worker(0, pid=1, began=100.0), False),
    ],
)
def test_workers_that_never_stay_up(worker, never):
    """A worker that fell five times at once and does not run for long never stays up."""
    assert worker.never_stays_up(100.0) is never


def test_nobody_listens_to_who_is_ready():
    """Workers that say that they are ready are not held up by it, however often they start."""
    with closing(Readiness()) as readiness:
        for _ in range(100_000):
            readiness.tell(1)

        assert readiness.heard() == {1}
