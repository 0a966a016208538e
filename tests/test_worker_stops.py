"""The end of several workers: what a stop waits for, and what it does not."""

import os
import signal
import sqlite3
import sys
from contextlib import closing, suppress

import pytest
from conftest import eventually, process
from worker_service import (
    IN_A_GROUP,
    LISTENS,
    OF_ITS_OWN,
    children,
    finish,
    is_gone,
    requests_on_the_way,
    run_program,
    serving,
    sockets,
)

from authapi.server import Bounds, streams, workers

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="workers need Linux")


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


STUBBORN = """
import logging, os, signal
from authapi.server import workers
logging.basicConfig()
workers.STOP_DEADLINE = 0.5
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
