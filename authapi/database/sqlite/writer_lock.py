"""The writer lock: one writer at a time, of all threads and processes."""

from __future__ import annotations

import fcntl
import math
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from authapi.errors import Unavailable

POLL_INTERVAL = 0.001  # seconds between two tries for a lock
STUCK_AFTER = 0.5  # seconds that one writer has held the lock; a commit takes some milliseconds
BLOCKED_AFTER = 5.0  # seconds that changes waited in vain


class WriterLock:
    """Lets one thread of one process write to a database at a time.

    NOTE: SQLite's busy handler is unfair under load, and builds before 3.51.3 can lose a
    transaction when one connection writes while another checkpoints. A commit checkpoints inside
    this lock, so neither happens.
    """

    def __init__(
        self, path: str, most_waiting: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Take the lock file's path, and how many threads may wait while the lock is stuck.

        `waiting` is the number of threads that wait; `clock` returns seconds.
        """
        self.waiting = 0
        self._path, self._most_waiting, self._clock = path, most_waiting, clock
        self._writer = threading.Lock()
        self._counting = threading.Lock()
        self._held_since = self._blocked_since = math.inf
        self._blocked_until = -math.inf

    @property
    def is_stuck(self) -> bool:
        """Return whether a thread of this process has held the lock for unusually long.

        Then another program keeps the database locked, or the disk hangs.
        """
        return self._clock() - self._held_since > STUCK_AFTER

    @property
    def is_blocked(self) -> bool:
        """Return whether no thread of this process could change anything for BLOCKED_AFTER."""
        now = self._clock()
        since = self._blocked_since if now <= self._blocked_until else math.inf
        return now - min(since, self._held_since) > BLOCKED_AFTER

    @contextmanager
    def hold(self, deadline: float) -> Iterator[None]:
        """Hold the lock for the block.

        Raises Unavailable at the deadline, in the clock's seconds. Where the lock is stuck and
        enough threads wait already, raises it at once, so that the other threads answer requests.
        """
        with self._waiting_thread() as is_one_too_many:
            while not self._writer.acquire(timeout=self._slice(deadline)):
                if self._clock() >= deadline or (is_one_too_many and self.is_stuck):
                    raise Unavailable from TimeoutError("other threads kept on writing")
        try:
            self._held_since = self._clock()
            with file_locked(self._path, deadline, self._clock):
                yield
            self._blocked_since, self._blocked_until = math.inf, -math.inf
        except Unavailable:
            self._note_failure(deadline)
            raise
        finally:
            self._held_since = math.inf
            self._writer.release()

    def _note_failure(self, deadline: float) -> None:
        """Remember since when changes have waited in vain, where the wait was the reason."""
        now = self._clock()
        if now >= deadline:
            since = self._blocked_since if now <= self._blocked_until + BLOCKED_AFTER else math.inf
            self._blocked_since = min(since, self._held_since)
            self._blocked_until = now + BLOCKED_AFTER

    @contextmanager
    def _waiting_thread(self) -> Iterator[bool]:
        """Count a waiting thread; yield whether it is one too many."""
        with self._counting:
            self.waiting += 1
            is_one_too_many = self.waiting > self._most_waiting
        try:
            yield is_one_too_many
        finally:
            with self._counting:
                self.waiting -= 1

    def _slice(self, deadline: float) -> float:
        """Return the seconds to wait until the next look at the clock."""
        return min(max(0, deadline - self._clock()), STUCK_AFTER / 4)


@contextmanager
def file_locked(
    path: str, deadline: float, clock: Callable[[], float] = time.monotonic
) -> Iterator[None]:
    """Hold the lock on a file, made if it is missing. The system releases it after a crash.

    Raises Unavailable where another process holds it until the deadline, in the clock's seconds.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise Unavailable from error
    try:
        while not _try_lock(descriptor):
            if clock() >= deadline:
                raise Unavailable from TimeoutError("another process kept on writing")
            time.sleep(POLL_INTERVAL)
        yield
    finally:
        # NOTE: a process that was forked meanwhile has the descriptor too, and with it the lock.
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
