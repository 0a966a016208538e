"""Jobs: what is due without a request, such as pruning."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from authapi.background import BackgroundService
from authapi.errors import Unavailable
from authapi.job_claims import PATIENCE, Claims, Job
from authapi.signals import kept_from_threads

if TYPE_CHECKING:
    from authapi.core import Core

__all__ = ["Job", "Jobs", "Pace", "pruning"]

SHORTEST_PAUSE, LONGEST_PAUSE = 0.002, 0.1  # seconds between two steps
ROWS_OF_A_STEP = 100  # that a step of `pruning` deletes at most, in some milliseconds

logger = logging.getLogger("authapi.jobs")


class Pace(msgspec.Struct, frozen=True):
    """When a process looks for jobs that are due, in seconds.

    `first_look` counts from its first wake, `look_every` from one look to the next, where no job is
    due earlier, and `retry` from a look that the database stopped. `close` waits for `close_wait`.
    """

    first_look: float = 5
    look_every: float = 60
    retry: float = 1
    close_wait: float = 5


def pruning(name: str, every: int, delete: Callable[[Core, int], int]) -> Job:
    """Return a job that deletes rows which are no longer needed.

    `delete(core, at_most)` is called inside a transaction, deletes so many rows at most, and
    returns how many.
    """

    def run(core: Core) -> bool:
        with core.database.transaction(PATIENCE):
            return delete(core, ROWS_OF_A_STEP) >= ROWS_OF_A_STEP

    return Job(name, every, run)


class Jobs(BackgroundService):
    """Runs the jobs that are due, one after the other, in a thread that ends when none is left."""

    def __init__(self, core: Core) -> None:
        """Take the core. `wake` starts the thread, and nothing else does."""
        self.pace = Pace()
        self._core = core
        self._jobs: dict[str, Job] = {}
        self._failing: set[str] = set()
        super().__init__()

    def begin(self) -> None:
        """Start without a thread and without claims on jobs."""
        self._claims = Claims(self._core)
        self._starting, self._running = threading.Lock(), threading.Lock()
        self._thread: threading.Thread | None = None
        self._ends = False
        self._look_at: float | None = None  # monotonic seconds

    def add(self, *jobs: Job) -> None:
        """Add jobs. Raises ValueError for a name that another job has."""
        for job in jobs:
            if job.name in self._jobs:
                raise ValueError(f"there is a job {job.name} already: choose another name")
            self._jobs[job.name] = job
        self._look_at = None

    def wake(self) -> None:
        """Start a thread that runs what is due, unless it is too early for a look.

        NOTE: the server's loop calls this, and threads that answer requests. It must not wait.
        """
        now = time.monotonic()
        if self._look_at is None:
            self._look_at = now + self.pace.first_look
        if now >= self._look_at and self._starting.acquire(blocking=False):
            try:
                self._start()
            finally:
                self._starting.release()

    def run_due(self) -> list[str]:
        """Run the jobs that are due in the calling thread, without pauses; return their names.

        A job that another process has claimed is not due. Raises Unavailable.
        """
        return self._run_due(lambda _: None)

    def before_fork(self) -> None:
        """End the thread; a later `wake` starts another."""
        self.close()
        self._ends, self._look_at = False, None

    def close(self) -> bool:
        """End the thread after the step that it runs, and start no other."""
        with self._starting:
            self._ends = True
        if self._thread is None:
            return True
        self._thread.join(self.pace.close_wait)
        return not self._thread.is_alive()

    def _start(self) -> None:
        if self._ends or (self._thread is not None and self._thread.is_alive()):
            return
        thread = threading.Thread(target=self._work, name="authapi-jobs", daemon=True)
        try:
            with kept_from_threads():
                thread.start()
        except RuntimeError:  # the system has no thread left
            self._look_at = time.monotonic() + self.pace.look_every
        else:
            self._thread = thread

    def _work(self) -> None:
        self._look_at = time.monotonic() + self.pace.retry
        try:
            self._run_due(time.sleep)
        except Unavailable as error:  # what is wrong with the database stands in the log already
            logger.debug("the jobs wait for the database (%s)", error.__cause__)
        except Exception as error:  # noqa: BLE001 - nothing is above a thread
            self._look_at = time.monotonic() + self.pace.look_every
            self._tell("all", error)

    def _run_due(self, pause: Callable[[float], None]) -> list[str]:
        with self._running:
            times, ran = self._claims.due_times(), []
            for job in self._jobs.values():
                if not self._ends and self._claims.is_due(job, times.get(job.name)):
                    times[job.name] = self._claims.take(job)
                    if self._claims.holds(job):
                        ran.append(job.name)
                        self._run(job, pause)
            self._plan(times)
        return ran

    def _run(self, job: Job, pause: Callable[[float], None]) -> None:
        """Run the steps of a claimed job, until it is done or due again.

        NOTE: the pauses let waiting writers have their turn, for the writer lock has no queue.
        """
        try:
            while not self._ends and self._claims.holds(job):
                began = time.monotonic()
                if not job.run(self._core):
                    break
                pause(min(max(SHORTEST_PAUSE, time.monotonic() - began), LONGEST_PAUSE))
        except Unavailable as error:  # the next look goes on with it
            logger.debug("job %s waits for the database (%s)", job.name, error.__cause__)
            return
        except Exception as error:  # noqa: BLE001 - a fault of one job does not stop the others
            self._tell(job.name, error)
        else:
            self._failing -= {job.name, "all"}
        self._claims.release(job)

    def _plan(self, times: dict[str, int]) -> None:
        """Set the time of the next look, where `times` says when each job is due."""
        now, pace = self._core.clock(), self.pace
        waits = [times.get(name, now) - now for name in self._jobs]
        wait = pace.retry if self._claims.are_held else min(waits, default=pace.look_every)
        self._look_at = time.monotonic() + min(max(wait, pace.retry), pace.look_every)

    def _tell(self, name: str, error: Exception) -> None:
        """Log a failure, once until the job succeeds."""
        if name not in self._failing:
            logger.error("job %s failed: it is tried again", name, exc_info=error)
        self._failing.add(name)
