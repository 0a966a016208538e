"""Several worker processes: their parent starts them, restarts those that fall, and ends them."""

from __future__ import annotations

import logging
import math
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import NoReturn

from authapi.errors import StartError
from authapi.server.streams import drain
from authapi.server.worker import Readiness, Worker
from authapi.signals import END_SIGNALS, end_by, kept_from_threads

# Seconds until workers that do not stop are killed: one takes 8 for its requests and 1 for its
# threads, and the parent must have ended before a container is killed, after 10.
STOP_DEADLINE = 9.5
READY_POLL = 0.01  # seconds

_HELD = (*END_SIGNALS, signal.SIGCHLD)

logger = logging.getLogger("authapi.workers")


@dataclass(frozen=True)
class Hooks:
    """Functions that are called with a worker's number, from 0 on.

    `begins` is called in a worker before its work, `falls` in the parent when one has ended by
    itself.
    """

    begins: Callable[[int], None] = lambda _: None
    falls: Callable[[int], None] = lambda _: None


class Workers:
    """Runs `work` in several processes, forked from a process that has no other threads.

    `work` gets a function to call when it is ready. It ends on SIGTERM, and on nothing else. What
    it has registered with `atexit` is not called.
    """

    def __init__(
        self,
        count: int,
        work: Callable[[Callable[[], None]], None],
        drain_seconds: float = 0,
        hooks: Hooks = Hooks(),
    ) -> None:
        """Take the work, and for how long it goes on after SIGTERM. Nothing is started yet."""
        self._work, self._hooks = work, hooks
        self._patience_to_stop = STOP_DEADLINE + drain_seconds
        self._workers = [Worker(number) for number in range(count)]
        self._kill_at = math.inf  # once stopping, when workers that still run are killed
        self._given_up = self._killed = False
        self._ended_by = 0  # the signal that ended the service
        self._readiness = Readiness()
        self._alive, self._held = os.pipe()  # its end tells workers that their parent has ended

    def run(self, when_ready: Callable[[], None]) -> None:
        """Return when one of END_SIGNALS has ended all workers; a second signal kills them.

        Before all workers are ready, the signal ends this process too. Raises StartError if workers
        were killed, or if all of them fall at once, again and again.
        """
        unready = {worker.number for worker in self._workers}
        with _signals_held(), self._pipes():
            while not self._stopping or any(worker.pid for worker in self._workers):
                self._start_due()
                self._take(_next_signal(READY_POLL if unready else self._patience()))
                if unready and not self._stopping:
                    unready -= self._readiness.heard()
                    if not unready:
                        when_ready()
        if self._given_up:
            raise StartError("The workers crash as soon as they start: the log above says why.")
        if self._killed:
            raise StartError(
                "Workers that had not stopped were killed, and their requests with them."
            )
        if unready:
            end_by(self._ended_by)

    @contextmanager
    def _pipes(self) -> Iterator[None]:
        """Close the pipes in the end, so that workers end too if the block fails."""
        try:
            yield
        finally:
            self._readiness.close()
            os.close(self._alive)
            os.close(self._held)

    @property
    def _stopping(self) -> bool:
        return self._kill_at < math.inf

    def _patience(self) -> float:
        """Return the seconds until something is due without a signal."""
        waiting = [] if self._stopping else [w.due for w in self._workers if not w.pid]
        return max(0, min([self._kill_at, *waiting]) - time.monotonic())

    def _take(self, number: int | None) -> None:
        """Do what a signal asks for, or what is due by the time."""
        if number in END_SIGNALS and not self._stopping:
            self._ended_by = number or 0
            self._end()
        elif number in END_SIGNALS or time.monotonic() >= self._kill_at:
            logger.warning("workers that have not stopped are killed")
            self._kill_at = time.monotonic() + STOP_DEADLINE
            self._send(signal.SIGKILL)
        for worker, status in self._fallen():
            worker.pid = 0
            if not self._stopping:
                self._note_fall(worker, f"ended with status {status}")
            elif status == -signal.SIGKILL:
                self._killed = True

    def _end(self) -> None:
        self._kill_at = time.monotonic() + self._patience_to_stop
        self._send(signal.SIGTERM)

    def _send(self, number: int) -> None:
        for worker in self._workers:
            if worker.pid:
                os.kill(worker.pid, number)

    def _fallen(self) -> Iterator[tuple[Worker, int]]:
        """Yield the workers that have ended, with their exit status, or minus the signal."""
        by_pid = {worker.pid: worker for worker in self._workers}
        with suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                pid, status = ended
                if pid in by_pid:  # process 1 of a container is given strangers too
                    yield by_pid[pid], os.waitstatus_to_exitcode(status)

    def _note_fall(self, worker: Worker, how: str) -> None:
        """Plan the next start of a worker, or give up if no worker stays up."""
        now = time.monotonic()
        pause = worker.fall(now)
        self._hooks.falls(worker.number)
        if all(each.never_stays_up(now) for each in self._workers):
            logger.error("worker %d %s", worker.number + 1, how)
            self._given_up = True
            self._end()
        else:
            again = "worker %d %s: it is started again in %.1f s"
            logger.error(again, worker.number + 1, how, pause)

    def _start_due(self) -> None:
        for worker in self._workers:
            if not worker.pid and not self._stopping and worker.due <= time.monotonic():
                worker.began = time.monotonic()
                _flush()  # otherwise each process would write what is kept back
                try:
                    worker.pid = _fork() or self._run_child(worker)
                except OSError as error:  # too many processes, or too little memory
                    self._note_fall(worker, f"cannot be started ({error.strerror})")

    def _run_child(self, worker: Worker) -> NoReturn:
        """Do the work, in a process that ends with it."""
        status = 1
        try:
            os.close(self._held)
            self._readiness.close_reader()
            # A terminal sends them to all. NOTE: SIG_IGN would pass on to what a worker executes.
            for number in END_SIGNALS[1:]:
                signal.signal(number, lambda *_: None)
            with kept_from_threads():
                arguments = self._alive, self._patience_to_stop
                threading.Thread(target=_end_with_parent, args=arguments, daemon=True).start()
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _HELD)
            self._hooks.begins(worker.number)
            self._work(partial(self._readiness.tell, worker.number))
            status = 0
        except StartError as error:
            logger.error("%s", error)  # noqa: TRY400 - its sentence says all
        except (Exception, SystemExit):
            logger.exception("worker %d crashed", worker.number + 1)
        finally:
            _flush()
            drain()
            os._exit(status)


def _end_with_parent(alive: int, patience: float) -> None:
    os.read(alive, 1)  # nobody writes: it returns when no parent is left
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(patience)
    os.kill(os.getpid(), signal.SIGKILL)


def _fork() -> int:
    """Fork. NOTE: a thread that cannot end, because nobody reads the log, holds no lock."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, OSError, ValueError):  # none, or closed
            stream.flush()


@contextmanager
def _signals_held() -> Iterator[None]:
    """Keep signals until `_next_signal` takes them, so that none comes at a bad moment."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _HELD)
    # NOTE: it may be ignored by what started us, and then no child is ever seen to end.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _next_signal(patience: float) -> int | None:
    """Return the number of the next signal, or None if none comes in so many seconds."""
    if patience == math.inf:
        return signal.sigwait(_HELD)
    taken = signal.sigtimedwait(_HELD, patience)
    return taken.si_signo if taken else None
