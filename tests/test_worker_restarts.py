"""Workers that fall: which are started again, when, and when the parent gives up."""

import os
import re
import signal
import sys
from contextlib import closing

import pytest
from conftest import RUN, eventually
from worker_service import EXEC, OF_ITS_OWN, QUICKLY, ask, children, run_program, serving

from authapi.server.worker import LONGEST_PAUSE, SOON, Readiness, Worker

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="workers need Linux")


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
    """If all workers crash again and again, the parent gives up loudly."""
    service = run_program(tmp_path, OF_ITS_OWN % fall, AUTHAPI_WORKERS="2")
    output, log = service.communicate()

    assert (output, service.returncode) == ("", 1)
    assert log.splitlines()[-1] == (
        "authapi: The workers crash as soon as they start: the log above says why."
    )
    assert re.search(rf"worker [12] ended with status {status}\n", log)
    assert log.count(f"ended with status {status}: it is started again") >= 8
    assert says in log


def test_a_starter_that_ignores_its_children(tmp_path):
    """If the parent's parent ignores SIGCHLD, a crashed worker is still noticed."""
    program = f"import os, signal, sys; signal.signal(signal.SIGCHLD, signal.SIG_IGN); {EXEC}"
    with serving(tmp_path, run=("-c", program, RUN)) as service:
        fallen = min(service.workers)
        os.kill(fallen, signal.SIGKILL)
        eventually(lambda: fallen not in service.workers and len(service.listening()) == 2)
        service.parent.terminate()
        assert service.wait_for_end()[0] == 0


def test_a_fork_that_is_refused(tmp_path):
    """If the system refuses a process, the parent tries again."""
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
