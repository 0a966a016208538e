"""The writer lock: one writer at a time, of all threads, processes and programs."""

import fcntl
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import eventually, process, request, token_of
from databases import UNLIMITED, in_a_thread, is_unavailable, locked

from authapi.database.sqlite import SQLiteDatabase
from authapi.database.sqlite.database import LOCK_TIMEOUT
from authapi.database.sqlite.writer_lock import STUCK_AFTER, WriterLock
from authapi.errors import Unavailable

HOUR = 3_600


@pytest.fixture(name="path")
def _path(tmp_path):
    return tmp_path / "authapi.db.lock"


@pytest.fixture(name="lock")
def _lock(path, clock):
    return WriterLock(str(path), most_waiting=1, clock=clock)


def is_free(lock, deadline=0):
    """Return whether another thread gets the lock by a deadline."""

    def get():
        try:
            with lock.hold(deadline):
                return True
        except Unavailable:
            return False

    return in_a_thread(get)


@contextmanager
def held_by_another_process(path):
    """Hold the lock file, as another process does."""
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def test_threads(lock):
    """A thread that does not get the lock by its deadline is refused."""
    with lock.hold(0):
        assert not is_free(lock)
    assert is_free(lock)


def test_processes(lock, path):
    """So it is while another process holds the lock file; and without the file nobody writes."""
    with held_by_another_process(path):
        assert not is_free(lock)
    assert is_free(lock)

    path.unlink()
    path.mkdir()
    assert not is_free(lock)


def test_a_writer_waits_for_another_process(lock, path, clock):
    """A writer gets the lock when the other process is done."""
    with ThreadPoolExecutor(1) as pool:
        with held_by_another_process(path):
            waiting = pool.submit(is_free, lock, clock() + HOUR)
            eventually(lambda: clock.move(STUCK_AFTER) or lock.is_stuck)
            assert not waiting.done()
        assert waiting.result()


def test_one_deadline_for_all_that_a_change_waits_for(tmp_path, path, clock):
    """Threads and other processes are waited for together, not one by one."""
    database = SQLiteDatabase(tmp_path / "authapi.db", clock=clock)
    lock = database.writer_lock

    def write():
        with database.writing():
            pass

    with ThreadPoolExecutor(2) as pool, held_by_another_process(path):
        first = pool.submit(is_free, lock, clock() + 2)
        eventually(lambda: not lock.waiting and path.exists())
        change = pool.submit(write)
        eventually(lambda: lock.waiting)
        clock.move(2)
        assert not first.result()
        eventually(lambda: not lock.waiting)
        assert not change.done()
        clock.move(LOCK_TIMEOUT - 2)
        assert isinstance(eventually(change.exception), Unavailable)


def test_enough_writers_wait(lock, clock):
    """While the lock is stuck only so many threads wait for it; others are refused at once."""
    with ThreadPoolExecutor(1) as pool:
        with lock.hold(0):
            waiting = pool.submit(is_free, lock, clock() + HOUR)
            eventually(lambda: lock.waiting)
            assert not lock.is_stuck
            clock.move(2 * STUCK_AFTER)
            assert lock.is_stuck
            assert not is_free(lock, clock() + HOUR)
            assert not waiting.done()
        assert waiting.result()
    assert not lock.is_stuck


def test_a_fork_does_not_keep_the_lock(tmp_path):
    """A process that was forked during a change has the lock's descriptor, and not the lock."""
    program = """
import os, signal
from authapi.database.sqlite.writer_lock import WriterLock
path = "authapi.db.lock"
with WriterLock(path, 1).hold(0):
    child = os.fork() or signal.pause()
try:
    with WriterLock(path, 1).hold(0):
        pass
finally:
    os.kill(child, signal.SIGKILL)
"""
    root = Path(__file__).parents[1]
    environ = {**os.environ, "PYTHONPATH": str(root)}
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=environ, check=True)


# Other programs, which know no such lock


@pytest.mark.parametrize("kind", ["IMMEDIATE", "EXCLUSIVE"])
def test_another_program(make_client, clock, caplog, kind):
    """A change is refused at its deadline; checks go on, and a renewal is put off."""
    client = make_client(**UNLIMITED)
    token = token_of(client.register())
    client.app.core.database.lock_timeout = 0.1
    clock.move(HOUR)
    with locked(client.app.core.database.path, kind):
        checked = client.get_as(token)
        refused = client.log_in()

    assert (checked.status_code, checked.headers.get("set-cookie")) == (200, None)
    assert is_unavailable(refused)
    assert caplog.messages[0] == "a session was not renewed: database is locked"
    assert caplog.messages[1].endswith("unavailable database is locked")
    assert client.log_in().status_code == 200
    assert token_of(client.get_as(token))


def test_sqlite_itself_waits_but_a_moment(client):
    """SQLite itself waits only briefly in one try, so that a deadline holds."""
    waits = client.query("PRAGMA busy_timeout")[0][0]

    assert 10 <= waits <= 100


def test_another_program_under_load(tmp_path, make_client, clock):
    """While another program keeps a lock and changes pile up, all others are answered.

    Also where a session is due for its renewal, which would need the lock. Changes that find enough
    others waiting are refused before their time.
    """
    client = make_client(**UNLIMITED)
    clock.now = time.time() - 2 * HOUR
    cookie = f"jwt={token_of(client.register())}"
    client.query("UPDATE sessions SET authenticated_at = unixepoch()")  # a rename needs that
    client.app.close()
    with process(tmp_path, AUTHAPI_RATE_LIMITS="off") as (_, url), ThreadPoolExecutor(40) as pool:

        def rename():
            return request(f"{url}/user", {"username": "other"}, method="PATCH", Cookie=cookie)

        with locked(tmp_path / "authapi.db"):
            renames = [pool.submit(rename) for _ in range(40)]
            status, answer, _ = next(as_completed(renames)).result()
            assert (status, answer["error"]) == (503, "unavailable")
            for path in ("/user", "/sessions"):
                status, _, headers = request(f"{url}{path}", Cookie=cookie)
                assert (status, headers["Set-Cookie"]) == (200, None)
            assert not all(each.done() for each in renames)  # others wait for five seconds
        assert {each.result()[0] for each in renames} <= {200, 503}
        assert request(f"{url}/user", Cookie=cookie)[2]["Set-Cookie"]
