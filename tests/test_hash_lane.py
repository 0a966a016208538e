"""The hash lane: a bounded executor whose threads give way to all others."""

import errno
import os
import subprocess
import sys
import threading

import pytest

from authapi.errors import Overloaded
from authapi.passwords.hash_lane import Lane


@pytest.fixture(name="lane")
def _lane():
    lanes = []

    def lane(slots, queue=0, nice=19):
        lanes.append(Lane(slots, slots + queue, nice))
        return lanes[-1]

    yield lane
    for made in lanes:
        made.close()


def test_lane_turns_away_at_once(lane):
    """Slots run, the queue waits, and the next one is turned away while both are full."""
    lane = lane(slots=3, queue=1)
    inside, leave, waited = threading.Semaphore(0), threading.Event(), threading.Event()

    def hold():
        inside.release()
        leave.wait()

    jobs = (hold, hold, hold, waited.set)
    threads = [threading.Thread(target=lane.run, args=[job]) for job in jobs]
    for thread in threads[:3]:
        thread.start()
        inside.acquire()
    threads[3].start()
    while not lane.is_full:  # until the last is in the queue
        pass

    with pytest.raises(Overloaded):
        lane.run(hold)
    assert not waited.is_set()
    leave.set()
    for thread in threads:
        thread.join()
    assert waited.is_set()


def test_lane_is_left_on_errors(lane):
    """A failure inside reaches the caller, and gives the place back, and no other."""
    lane = lane(slots=1)

    for _ in range(3):
        with pytest.raises(ValueError, match="invalid literal"):
            lane.run(int, "x")

    assert lane.run(lambda: lane.is_full)


def test_close_ends_the_threads(lane):
    """They end after their jobs; the next job starts new ones."""
    lane = lane(slots=2)
    before = set(threading.enumerate())
    lane.run(int, "1")
    threads = set(threading.enumerate()) - before

    lane.close()
    for thread in threads:
        thread.join()

    assert len(threads) == 2
    assert lane.run(threading.current_thread) not in threads


def test_lack_of_memory_is_overload(lane):
    """It says nothing about the password."""

    def fail():
        raise MemoryError

    with pytest.raises(Overloaded):
        lane(slots=1).run(fail)


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")  # since Python 3.12
def test_lane_after_a_fork(lane):
    """A process that has hashed may fork: the child's lane has threads, and places, of its own."""
    lane = lane(slots=1)
    entered, leave = threading.Event(), threading.Event()
    hold = [lambda: entered.set() or leave.wait()]
    holder = threading.Thread(target=lane.run, args=hold, daemon=True)
    holder.start()
    entered.wait()

    child = os.fork()
    if not child:
        os._exit(lane.run(int, "42"))
    leave.set()
    holder.join()

    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 42


def priority():
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


@pytest.mark.skipif(sys.platform != "linux", reason="priorities of threads are Linux's")
@pytest.mark.parametrize("nice", [19, 10])
def test_hashes_give_way(lane, nice):
    """Hash threads have the priority that is set, and the threads that wait for them their own."""
    own = priority()

    assert lane(slots=1, nice=nice).run(priority) == nice
    assert priority() == own


@pytest.mark.skipif(sys.platform != "linux", reason="priorities of threads are Linux's")
def test_hashes_that_do_not_give_way(lane):
    """At 0 hash threads have the priority of the service, also where that is a low one."""
    found = []

    def hash_niced():
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 5)
        found.append(lane(slots=1, nice=0).run(priority))

    assert lane(slots=1, nice=0).run(priority) == priority()
    thread = threading.Thread(target=hash_niced)
    thread.start()
    thread.join()
    assert found == [5]


@pytest.mark.skipif(sys.platform != "linux", reason="priorities of threads are Linux's")
def test_priority_is_a_setting(make_app):
    """AUTHAPI_HASH_NICE is the nice value of the threads that hash; 19 unless it is set."""
    for nice, settings in ((19, {}), (7, {"hash_nice": 7})):
        app = make_app(**settings)
        app.core.passwords.hash("a good password")
        (hashing,) = [
            thread
            for thread in threading.enumerate()
            if thread.name == "authapi-hash"
            and os.getpriority(os.PRIO_PROCESS, thread.native_id) == nice
        ][:1]
        assert hashing.is_alive()
        app.close()


@pytest.mark.parametrize("platform", ["darwin", "win32"])
def test_priorities_of_other_systems(lane, monkeypatch, platform):
    """On systems where the number would be a process's, it is left alone."""
    asked = []
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(os, "setpriority", lambda *arguments: asked.append(arguments))

    lane(slots=1).run(int, "1")

    assert not asked


@pytest.mark.skipif(sys.platform != "linux", reason="priorities of threads are Linux's")
def test_a_sandbox_that_forbids_priorities(lane, monkeypatch, caplog):
    """Hash threads that may not give way hash all the same, and the log says so once."""

    def refuse(*_):
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "setpriority", refuse)
    lane, before = lane(slots=2), set(threading.enumerate())

    assert [lane.run(int, "1") for _ in range(2)] == [1, 1]

    threads = set(threading.enumerate()) - before
    lane.close()
    for thread in threads:
        thread.join()
    (warning,) = caplog.messages
    assert warning == (
        "hashing cannot lower its priority (Operation not permitted): "
        "session checks may wait for it"
    )


def test_no_threads(lane, monkeypatch):
    """If the system has no thread left, a hash is refused, and not run later."""
    lane, ran = lane(slots=2, queue=2), []

    def refuse(_thread):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        for _ in range(10):
            with pytest.raises(Overloaded):
                lane.run(ran.append, "refused")

    assert lane.run(lambda: ran) == []


def test_fewer_threads_will_do(lane, monkeypatch):
    """One thread hashes where there is none for the other slots."""
    lane, started = lane(slots=2), []
    start = threading.Thread.start

    def start_one(thread):
        if started:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_one)

    assert [lane.run(threading.current_thread) for _ in range(3)] == started * 3


def test_is_full_takes_no_place(lane):
    """Asking whether the lane is full turns nobody away."""
    lane = lane(slots=1)
    ended = threading.Event()

    def ask():
        while not ended.is_set():
            assert lane.is_full in {True, False}

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        assert [lane.run(int, "1") for _ in range(50)] == [1] * 50
    finally:
        ended.set()
        asking.join()


def test_the_end_waits_for_no_hash():
    """A process ends while a password is being hashed."""
    program = (
        "import threading; from authapi.passwords.hash_lane import Lane;"
        "lane, began = Lane(1, 1, 19), threading.Event();"
        "job = lambda: (began.set(), threading.Event().wait());"
        "threading.Thread(target=lane.run, args=[job], daemon=True).start();"
        "began.wait(); lane.close()"
    )

    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
