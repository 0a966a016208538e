"""Passwords: the hash lane, verification, the decoy."""

import errno
import os
import subprocess
import sys
import threading
import unicodedata

import argon2
import pytest
from conftest import CHEAP
from hypothesis import given
from hypothesis import strategies as st

from authapi import Settings, passwords
from authapi.errors import Overloaded
from authapi.passwords import Lane, Passwords, Verdict

PASSWORDS = Passwords(Settings(**CHEAP))


def test_defaults():
    """At the defaults a hash is argon2id at OWASP's cost: salt 16 bytes, tag 32."""
    stored = Passwords(Settings()).hash("a password")

    parameters = argon2.extract_parameters(stored)
    assert (
        parameters.type,
        parameters.version,
        parameters.memory_cost,
        parameters.time_cost,
        parameters.parallelism,
        parameters.salt_len,
        parameters.hash_len,
    ) == (argon2.Type.ID, 19, 47_104, 1, 1, 16, 32)


@given(st.text(), st.text())
def test_a_password_verifies_and_no_other_does(one, other):
    """Exactly the password, whatever it holds, at every length."""
    stored = PASSWORDS.hash(one)

    assert PASSWORDS.verify(stored, one).correct
    same = PASSWORDS.verify(stored, other).correct
    assert same == (PASSWORDS.verify(PASSWORDS.hash(other), one).correct)
    assert not PASSWORDS.verify(stored, one + "x").correct


def test_the_last_of_1024_characters_counts():
    """Long passwords are not cut."""
    stored = PASSWORDS.hash("x" * 1_024)

    assert not PASSWORDS.verify(stored, "x" * 1_023 + "y").correct


@pytest.mark.parametrize("text", ["lone \ud800 surrogate", "\udfff" * 8])
def test_lone_surrogates(text):
    """An embedding application may pass what JSON cannot: refused when new, wrong when verified."""
    assert PASSWORDS.fault(text)
    assert not PASSWORDS.verify(
        PASSWORDS.hash(text.encode(errors="replace").decode()), text
    ).correct


def test_the_decoy_never_verifies():
    """No password is nobody's."""
    assert PASSWORDS.verify(None, "") == Verdict(correct=False)


def test_a_hash_of_another_cost_is_replaced():
    """A correct password gives a new hash of an outdated one, unless none is wanted."""
    stored = PASSWORDS.hash("a password")
    dearer = Passwords(Settings(argon2_memory_kib=16, argon2_time_cost=1, argon2_lanes=1))

    new_hash = dearer.verify(stored, "a password").new_hash
    assert new_hash
    assert "m=16," in new_hash
    assert dearer.verify(stored, "a password", rehash=False) == Verdict(correct=True)
    assert dearer.verify(stored, "another") == Verdict(correct=False)
    assert PASSWORDS.verify(stored, "a password") == Verdict(correct=True)


def test_what_is_too_long_is_not_normalized(monkeypatch):
    """It would take its time, and could be no password."""
    password, normalized = "x" * 4 * 1_024, []
    monkeypatch.setattr(unicodedata, "normalize", lambda _, text: normalized.append(text) or text)

    for text in (password, password + "x"):
        assert PASSWORDS.fault(text) == "Must have at most 1024 characters."
        assert not PASSWORDS.verify(None, text).correct

    assert normalized == [password] * 2


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
    threads = {lane.run(threading.current_thread) for _ in range(10)} | {*lane._threads}

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
    """Where the number would be a process's, it is left alone."""
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

    passwords._warn_of_priority.cache_clear()
    monkeypatch.setattr(os, "setpriority", refuse)

    for _ in range(2):
        assert lane(slots=2).run(int, "1") == 1

    (warning,) = caplog.messages
    assert warning == (
        "hashing cannot lower its priority (Operation not permitted): "
        "session checks may wait for it"
    )


def test_no_threads(lane, monkeypatch):
    """Where the system has no thread left, a hash is refused, and nothing of it is kept."""
    lane = lane(slots=2, queue=2)

    def refuse(_thread):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        for _ in range(10):
            with pytest.raises(Overloaded):
                lane.run(int, "1")

    assert not lane._jobs._waiting
    assert lane.run(int, "1") == 1


def test_fewer_threads_will_do(lane, monkeypatch):
    """One thread hashes where there is none for the other slots."""
    lane = lane(slots=2)
    start = threading.Thread.start

    def start_one(thread):
        if lane._threads:
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_one)

    assert lane.run(int, "1") == 1
    assert len(lane._threads) == 1


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
        assert [lane.run(int, "1") for _ in range(200)] == [1] * 200
    finally:
        ended.set()
        asking.join()


def test_the_end_waits_for_no_hash():
    """A process ends while a password is being hashed."""
    program = (
        "import threading; from authapi.passwords import Lane;"
        "lane, began = Lane(1, 1, 19), threading.Event();"
        "job = lambda: (began.set(), threading.Event().wait());"
        "threading.Thread(target=lane.run, args=[job], daemon=True).start();"
        "began.wait(); lane.close()"
    )

    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
