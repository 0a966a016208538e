"""Claims on jobs: of several processes that share a database, one runs a job that is due.

Table: jobs. It has a row for each job, with the time at which the job is due again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from authapi.core import Core

PATIENCE = 0.25  # seconds that a claim, and one step of a job, wait to write


class Job(msgspec.Struct, frozen=True):
    """Work that the service does without a request. A feature declares its own in `JOBS`.

    `name` is unique, and the key of the job's row. A run begins `every` seconds after the last one
    began, and ends before the next one. `run(core)` does one step of it, with one short transaction
    at most, and returns whether there is more to do. A step must not take longer than `every`.
    """

    name: str
    every: int
    run: Callable[[Core], bool]


class Claims:
    """The claims of this process. Whoever moves the time in a job's row runs it until that time.

    So a run that takes too long, or whose process ends, is followed by another process's.
    """

    def __init__(self, core: Core) -> None:
        """Take the core."""
        self._core = core
        self._statements = core.database.statements("jobs")
        self._until: dict[str, int] = {}  # by job, of runs that have not ended

    @property
    def are_held(self) -> bool:
        """Return whether a run has not ended, because the database was unavailable."""
        return bool(self._until)

    def due_times(self) -> dict[str, int]:
        """Return when each job that ever ran is due again. Raises Unavailable."""
        return dict(self._statements.times())

    def is_due(self, job: Job, due_at: int | None) -> bool:
        """Return whether a job is due, whose row has a time, or None where there is no row.

        A time further ahead than two runs comes from a clock that was set back.
        """
        if due_at is None or self.holds(job):
            return True
        return not 0 < due_at - self._core.clock() <= 2 * job.every

    def holds(self, job: Job) -> bool:
        """Return whether this process may go on with a run."""
        return 0 < self._until.get(job.name, 0) - self._core.clock() <= job.every

    def take(self, job: Job) -> int:
        """Claim a job that is due, unless another process has; return when it is due again.

        Raises Unavailable. NOTE: the clock is read behind the writer lock, so that no process comes
        with an earlier time than the one before it.
        """
        if self.holds(job):
            return self._until[job.name]
        self.release(job)
        with self._core.database.transaction(PATIENCE):
            now = int(self._core.clock())
            if self._statements.claim(name=job.name, now=now, every=job.every):
                self._until[job.name] = now + job.every
        return now + job.every

    def release(self, job: Job) -> None:
        """End a run. The job is due again when its time has come."""
        self._until.pop(job.name, None)
