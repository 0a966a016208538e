"""Passwords: the hash lane, verification with a decoy, the rehash."""

from __future__ import annotations

import logging
import os
import sys
import threading
import weakref
from collections import OrderedDict, deque
from collections.abc import Callable
from concurrent.futures import Future
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, TypeVar

from authapi.errors import Overloaded
from authapi.hashing import Cost, Hasher, Stored
from authapi.normalization import nfc
from authapi.password_policy import MAX_DECOMPOSED, PasswordPolicy
from authapi.settings import Settings
from authapi.signals import kept_from_threads

# Who holds the place by which the current request hashes: a network, or a user who is known.
HOLDER: ContextVar[str] = ContextVar("HOLDER", default="")

Result = TypeVar("Result")
Job = Callable[[], None]

logger = logging.getLogger("authapi.passwords")


@dataclass(frozen=True, slots=True)
class Verdict:
    """The outcome of a verification.

    `new_hash` is set where the stored hash is due for one. A stored hash is not `usable` if it
    cannot be read, or would take too much.
    """

    correct: bool
    new_hash: str | None = None
    usable: bool = True

    @property
    def reason(self) -> str:
        """Why the password is refused, in a word of `LoginFailed`."""
        return "wrong_password" if self.usable else "unusable_hash"


class _Jobs:
    """A blocking queue in which the holders of places take turns, a job each (round robin).

    So a job waits for one job of each other holder, and not for all jobs of a network that floods.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: OrderedDict[str, deque[Job]] = OrderedDict()  # by holder, the next one first
        self._arrived = threading.Semaphore(0)  # jobs, and ends

    def put(self, holder: str, job: Job) -> None:
        with self._lock:
            self._waiting.setdefault(holder, deque()).append(job)
        self._arrived.release()

    def end(self) -> None:
        """Have one `get` give None when there is no job any more."""
        self._arrived.release()

    def get(self) -> Job | None:
        self._arrived.acquire()
        with self._lock:
            if not self._waiting:
                return None
            holder, jobs = self._waiting.popitem(last=False)
            job = jobs.popleft()
            if jobs:
                self._waiting[holder] = jobs
        return job


class Lane:
    """A bounded executor: runs `slots` jobs at once, lets others wait, and refuses the rest.

    NOTE: there are fewer `places`, for jobs that run or wait, than the server has threads, so that
    requests which hash nothing always find a thread. The jobs run in threads of their own, which
    give way to all others: a thread cannot take back what it has once yielded. A process that ends
    does not wait for them.
    """

    def __init__(self, slots: int, places: int, nice: int) -> None:
        """Take the numbers, and the nice value of the threads, which start with the first job."""
        self._slots, self._places, self._nice = slots, places, nice
        self.begin()
        _lanes.add(self)

    def begin(self) -> None:
        """Be empty, and without threads, which stay behind in a fork."""
        self._lock = threading.Lock()
        self._taken = 0
        self._threads: list[threading.Thread] = []
        self._jobs = _Jobs()

    def run(self, job: Callable[..., Result], *arguments: object) -> Result:
        """Run a job; return or raise what it does. Raises Overloaded where all places are taken.

        A lack of memory or threads is Overloaded too: it says nothing about the password.
        """
        result: Future[Result] = Future()
        with self._lock:
            if self.is_full:
                raise Overloaded
            self._start_threads()
            self._taken += 1
        try:
            self._jobs.put(HOLDER.get(), partial(_do, result, job, arguments))
            return result.result()
        except MemoryError as error:
            raise Overloaded from error
        finally:
            with self._lock:
                self._taken -= 1

    @property
    def is_full(self) -> bool:
        """Whether `run` would refuse a job now."""
        return self._taken >= self._places

    def close(self) -> None:
        """Have the threads end after their jobs, and give back the memory that they keep."""
        with self._lock:
            for _ in self._threads:
                self._jobs.end()
            self._threads = []

    def _start_threads(self) -> None:
        try:
            while len(self._threads) < self._slots:
                thread = threading.Thread(
                    target=_work, args=[self._jobs, self._nice], name="authapi-hash", daemon=True
                )
                with kept_from_threads():
                    thread.start()
                self._threads.append(thread)
        except RuntimeError as error:  # the system has no more: fewer will do
            if not self._threads:
                raise Overloaded from error


_lanes: weakref.WeakSet[Lane] = weakref.WeakSet()


def _begin_anew() -> None:
    for lane in _lanes:
        lane.begin()


os.register_at_fork(after_in_child=_begin_anew)


def _work(jobs: _Jobs, nice: int) -> None:
    """Do one job after the other until there is None."""
    _give_way(nice)
    while (job := jobs.get()) is not None:
        job()
        del job  # it holds a password


def _give_way(nice: int) -> None:
    """Lower the priority of the calling thread to a nice value, unless it is as low already."""
    thread = threading.get_native_id()
    if sys.platform != "linux" or nice <= os.getpriority(os.PRIO_PROCESS, thread):
        return  # elsewhere the number would be a process's
    try:
        os.setpriority(os.PRIO_PROCESS, thread, nice)
    except OSError as error:
        _warn_of_priority(error.strerror)


@cache
def _warn_of_priority(cause: str) -> None:
    """Log once what a sandbox forbids."""
    logger.warning("hashing cannot lower its priority (%s): session checks may wait for it", cause)


def _do(result: Future[Any], job: Callable[..., Any], arguments: tuple[object, ...]) -> None:
    try:
        result.set_result(job(*arguments))
    except BaseException as error:  # noqa: BLE001 - it is the caller's
        result.set_exception(error)


class Passwords:
    """Hashes and verifies passwords with argon2id (RFC 9106) at the cost in the settings."""

    def __init__(self, settings: Settings) -> None:
        """Take the cost, the lane's size and the policy from the settings."""
        self._hasher = Hasher(
            Cost(settings.argon2_memory_kib, settings.argon2_time_cost, settings.argon2_lanes)
        )
        self._decoy = self._hasher.decoy()
        self._lane = Lane(settings.hash_slots, settings.hash_places, settings.hash_nice)
        self.fault = PasswordPolicy(settings).fault
        self.close = self._lane.close

    def hash(self, password: str) -> str:
        """The encoded hash. Raises Overloaded."""
        return str(self._lane.run(self._hasher.hash, _canonical(password)))

    def verify(self, stored: str | None, password: str, *, rehash: bool = True) -> Verdict:
        """Check a password against an encoded hash of any argon2 cost. Raises Overloaded.

        `rehash` says whether a hash of another cost than ours is to be replaced.

        SECURITY: without a hash (no such user, or none that can be read) a decoy is verified, on
        the same lane and at the same cost, so that the time tells nothing (OWASP Authentication).
        """
        return self._lane.run(self._verify, stored, _canonical(password), rehash)

    def _verify(self, text: str | None, password: bytes, rehash: bool) -> Verdict:  # noqa: FBT001
        known = self._usable(text) if text is not None else None
        correct = self._hasher.matches(known or self._decoy, password)
        if known is None:
            return Verdict(correct=False, usable=text is None)
        if not correct or not rehash or self._hasher.is_current(known):
            return Verdict(correct)
        return Verdict(correct=True, new_hash=str(self._hasher.hash(password)))

    def _usable(self, text: str) -> Stored | None:
        """The stored hash, unless it cannot be read or would take too much."""
        try:
            stored = Stored.parse(text)
        except ValueError:
            logger.warning("a stored password hash is no argon2 hash: its user cannot log in")
            return None
        excess = self._hasher.excess(stored.cost)
        if excess:
            logger.warning("a stored password hash takes %s: its user cannot log in", excess)
            return None
        return stored


def _canonical(password: str) -> bytes:
    if len(password) <= MAX_DECOMPOSED:  # longer than any password: it is wrong as it is
        password = nfc(password)
    # SECURITY: a lone surrogate has no UTF-8, so it matches no hash, and fails like any wrong word.
    return password.encode(errors="surrogatepass")
