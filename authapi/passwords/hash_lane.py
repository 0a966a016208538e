"""The hash lane: the bounded executor that runs password hashes."""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import partial
from typing import Any, TypeVar

from authapi.background import BackgroundService
from authapi.errors import Overloaded
from authapi.metrics import UNOBSERVED, Histogram, Metrics
from authapi.signals import kept_from_threads

# The holder of the place that the current request hashes with: a network or a known user.
HOLDER: ContextVar[str] = ContextVar("HOLDER", default="")

Result = TypeVar("Result")
Task = Callable[[], None]

logger = logging.getLogger("authapi.passwords")


class _Queue:
    """A blocking queue that serves the holders of places round robin, one task each.

    A task waits for one task of each other holder, and not for all tasks of a network that floods.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: OrderedDict[str, deque[Task]] = OrderedDict()  # by holder, the next first
        self._arrived = threading.Semaphore(0)  # counts tasks and ends

    def put(self, holder: str, task: Task) -> None:
        with self._lock:
            self._waiting.setdefault(holder, deque()).append(task)
        self._arrived.release()

    def end(self) -> None:
        """Let one `get` return None once no task waits."""
        self._arrived.release()

    def get(self) -> Task | None:
        self._arrived.acquire()
        with self._lock:
            if not self._waiting:
                return None
            holder, tasks = self._waiting.popitem(last=False)
            task = tasks.popleft()
            if tasks:
                self._waiting[holder] = tasks
        return task


class Lane(BackgroundService):
    """A bounded executor: it runs `slots` tasks at once, queues further ones, and refuses the rest.

    NOTE: `places` counts the tasks that run or wait. The server has more threads than there are
    places, so that a request that hashes nothing always finds a thread. Tasks run in threads of
    their own, which have a low priority: a thread can lower its priority, but never raise it again.
    A process that exits does not wait for them.
    """

    def __init__(self, slots: int, places: int, nice: int) -> None:
        """Take the numbers and the threads' nice value. Threads start with the first task."""
        self._slots, self._places, self._nice = slots, places, nice
        self._times = UNOBSERVED
        super().__init__()

    def measure(self, metrics: Metrics) -> None:
        """Declare the lane's metrics."""
        metrics.gauge(
            "authapi_hash_slots", "Passwords that can be hashed at once.", lambda: self._slots
        )
        metrics.gauge(
            "authapi_hash_slots_busy",
            "Passwords that are being hashed.",
            lambda: min(self._taken, self._slots),
        )
        metrics.gauge(
            "authapi_hash_queue",
            "Passwords that wait to be hashed.",
            lambda: max(0, self._taken - self._slots),
        )
        self._times = metrics.histogram(
            "authapi_hash_duration_seconds", "Time that one password takes to be hashed."
        )

    def begin(self) -> None:
        """Forget all tasks and threads: a forked child has none of the parent's threads."""
        self._lock = threading.Lock()
        self._taken = 0
        self._has_warned = False
        self._threads: list[threading.Thread] = []
        self._queue = _Queue()

    def run(self, task: Callable[..., Result], *arguments: object) -> Result:
        """Run a task in the lane; return or raise what it does.

        Raises Overloaded where all places are taken, and for a lack of memory or threads, which
        says nothing about the password.
        """
        result: Future[Result] = Future()
        with self._lock:
            if self.is_full:
                raise Overloaded
            self._start_threads()
            self._taken += 1
        try:
            self._queue.put(HOLDER.get(), partial(_do, result, self._times, task, arguments))
            return result.result()
        except MemoryError as error:
            raise Overloaded from error
        finally:
            with self._lock:
                self._taken -= 1

    @property
    def is_full(self) -> bool:
        """Return whether `run` would refuse a task now."""
        return self._taken >= self._places

    def fault(self) -> str | None:
        """Return `hashing_stopped` where a thread has died, which a shortage of memory can do."""
        return None if all(each.is_alive() for each in self._threads) else "hashing_stopped"

    def wake(self) -> None:
        """Start a thread in the place of each that has died."""
        if self.fault() is None:
            return
        with self._lock, suppress(Overloaded):
            logger.error("a hashing thread has died; another one is started")
            self._threads = [each for each in self._threads if each.is_alive()]
            self._start_threads()

    def close(self) -> bool:
        """End the threads after the tasks that wait, which frees the memory that they keep."""
        with self._lock:
            for _ in self._threads:
                self._queue.end()
            self._threads = []
        return True

    def before_fork(self) -> None:
        """End the threads; the next task starts others."""
        self.close()

    def _start_threads(self) -> None:
        try:
            while len(self._threads) < self._slots:
                thread = threading.Thread(
                    target=self._work, args=[self._queue], name="authapi-hash", daemon=True
                )
                with kept_from_threads():
                    thread.start()
                self._threads.append(thread)
        except RuntimeError as error:  # the system has no thread left: fewer are enough
            if not self._threads:
                raise Overloaded from error

    def _work(self, queue: _Queue) -> None:
        """Run one task after the other until the queue returns None."""
        try:
            lower_priority(self._nice)
        except OSError as error:
            self._warn(error)
        while (task := queue.get()) is not None:
            task()
            del task  # it holds a password

    def _warn(self, error: OSError) -> None:
        """Log once why the priority could not be lowered."""
        with self._lock:
            has_warned, self._has_warned = self._has_warned, True
        if not has_warned:
            text = "hashing cannot lower its priority (%s): session checks may wait for it"
            logger.warning(text, error.strerror)


def lower_priority(nice: int) -> None:
    """Lower the priority of the calling thread to a nice value, unless it is as low already.

    Raises OSError where a sandbox forbids it.
    """
    thread = threading.get_native_id()
    # Elsewhere the number is a process's.
    if sys.platform == "linux" and nice > os.getpriority(os.PRIO_PROCESS, thread):
        os.setpriority(os.PRIO_PROCESS, thread, nice)


def _do(
    result: Future[Any],
    times: Histogram,
    task: Callable[..., Any],
    arguments: tuple[object, ...],
) -> None:
    try:
        with times.time():
            done = task(*arguments)
        result.set_result(done)
    except BaseException as error:  # noqa: BLE001 - `run` raises it in the caller's thread
        result.set_exception(error)


class Room:
    """Memory that the hashes of a process share, beside what its slots keep.

    A hash waits until it fits beside those that run. One that never fits runs alone. One that takes
    none, as all of our own, does not wait.
    """

    def __init__(self, size: int) -> None:
        """Take the size in bytes."""
        self._size, self._taken = size, 0
        self._changed = threading.Condition()

    @contextmanager
    def taken(self, size: int) -> Iterator[None]:
        """Take so many bytes for the block."""
        if not size:
            yield
            return
        with self._changed:
            self._changed.wait_for(lambda: not self._taken or self._taken + size <= self._size)
            self._taken += size
        try:
            yield
        finally:
            with self._changed:
                self._taken -= size
                self._changed.notify_all()
