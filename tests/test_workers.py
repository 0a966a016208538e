"""Several workers: the service as processes, with real sockets, signals and a real database."""

import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from conftest import RUN, USER, exchange, process, start
from worker_service import GET, LISTENS, ask, descriptors, is_gone, run_program, serving, sockets

from authapi import Settings
from authapi.errors import StartError
from authapi.machine import available_cpus
from authapi.server.listeners import hold, listen, listen_beside

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="workers need Linux")


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
        ({"AUTHAPI_DATABASE_URL": f"sqlite:///{RUN}"}, "is not a usable SQLite database"),
        ({"AUTHAPI_HOST": "203.0.113.1"}, "Cannot listen on 203.0.113.1"),
    ],
)
def test_refused_starts(tmp_path, environ, says):
    """The cause of a refused start with several workers is logged once."""
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


def takes_signals(status):
    return re.search(r"^SigBlk:\s0+$", status, re.MULTILINE)


def test_what_workers_inherit(tmp_path):
    """Workers hold nothing that is the parent's. No thread blocks signals that answers requests."""
    database = [f"{tmp_path}/authapi.db{suffix}" for suffix in ("", "-shm", "-wal", ".run")]
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
        held = [name for name in found if name.startswith(str(tmp_path))]
        assert held == [f"{tmp_path}/authapi.db.run"]  # no restore while workers are replaced


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


def test_output_that_is_kept_back(tmp_path):
    """Output from before the fork is written once, and a worker's output is not lost."""
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
