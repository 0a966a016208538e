"""The outbox: what is to be sent because of a change, such as a mail, kept in the database.

Table: outbox. A row is a job: it says what happened and to whom, and what is sent is made of it
when it is sent. So no secret waits in it. A process claims jobs for LEASE seconds; where it dies,
another one claims them again. So each job is sent at least once.

In this package, `delivery` claims jobs and sends them over a channel, and `sender` is the thread
that does it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from authapi.database import Row

if TYPE_CHECKING:
    from authapi.core import Core

LEASE = 120  # seconds
LONGEST_WAIT = 2 * 3_600  # seconds; a job that is due later was written by a clock that was ahead
KEPT_DEAD = 7 * 86_400  # seconds, also for a job that expired and that nobody ended
LONGEST_ERROR = 200  # characters


class OutboxJob(msgspec.Struct, frozen=True):
    """A job that this process has claimed. Times are seconds since the epoch.

    `address` is what a client typed, or where a mail goes that follows no user; `data` is small and
    holds no secret. `claims` numbers the claims: an older one can change nothing. `failures` counts
    the tries that failed because of the job itself, the last one with `error`.
    """

    id: int
    kind: str
    user_id: int | None
    address: str
    data: Mapping[str, Any]
    language: str
    created_at: int
    expires_at: int
    claims: int = 0
    failures: int = 0
    error: str = ""


class Outbox:
    """The outbox table. Methods that write run inside transactions."""

    def __init__(self, core: Core) -> None:
        """Take the core."""
        self._core = core
        self._statements = core.database.statements("outbox")

    def write(  # noqa: PLR0913 - a row
        self,
        channel: str,
        kind: str,
        *,
        lifetime: int,
        user_id: int | None = None,
        address: str = "",
        data: Mapping[str, Any] | None = None,
        language: str = "",
    ) -> int:
        """Add a job inside the transaction of the change that it follows; return its id.

        After `lifetime` seconds it is of no use. SECURITY: `data` must hold no secret.
        """
        now = int(self._core.clock())
        written: int = self._statements.insert(
            channel=channel,
            kind=kind,
            user_id=user_id,
            address=address,
            data=json.dumps(data or {}),
            language=language,
            now=now,
            expires_at=now + lifetime,
        )
        return written

    def waiting(self, channel: str, at_most: int) -> int:
        """Return how many jobs wait, counted to `at_most`."""
        return int(self._statements.waiting(channel=channel, at_most=at_most))

    def seconds_to_next(self, channel: str) -> float | None:
        """Return in how many seconds a job is due, 0 for one that is; None where no job waits."""
        due_at, now = self._statements.first_due_at(channel=channel), self._core.clock()
        if due_at is None:
            return None
        return 0.0 if due_at > now + LONGEST_WAIT else max(0.0, due_at - now)

    def claim(self, channel: str, at_most: int) -> list[OutboxJob]:
        """Claim jobs that are due, the longest due first, for LEASE seconds."""
        now = int(self._core.clock())
        rows = self._statements.claim(
            channel=channel,
            now=now,
            until=now + LEASE,
            latest=now + LONGEST_WAIT,
            at_most=at_most,
        )
        return sorted(map(_job, rows), key=lambda job: job.id)

    def done(self, job: OutboxJob) -> bool:
        """Delete a job that was sent, or that is of no use."""
        return bool(self._statements.done(id=job.id, claims=job.claims))

    def give_back(self, job: OutboxJob, wait: float = 0) -> bool:
        """End a claim without a failure of the job. It is due after `wait` seconds."""
        due_at = int(self._core.clock() + wait)
        return bool(self._statements.give_back(id=job.id, claims=job.claims, due_at=due_at))

    def put_off(self, job: OutboxJob, wait: float, error: str) -> bool:
        """End a claim after a failure of the job. It is due after `wait` seconds."""
        due_at, error = int(self._core.clock() + wait), error[:LONGEST_ERROR]
        put_off = self._statements.put_off(id=job.id, claims=job.claims, due_at=due_at, error=error)
        return bool(put_off)

    def die(self, job: OutboxJob, error: str) -> bool:
        """End a job that cannot be sent. It is kept for the operator for KEPT_DEAD seconds."""
        now, error = int(self._core.clock()), error[:LONGEST_ERROR]
        return bool(self._statements.die(id=job.id, claims=job.claims, now=now, error=error))

    def of_user(self, user_id: int) -> list[Row]:
        """Return the id, kind, address and time of the jobs about a user."""
        rows: list[Row] = self._statements.of_user(user_id=user_id)
        return rows

    def forget_dead(self, user_id: int | None) -> None:
        """Delete the dead jobs about a user."""
        self._statements.forget_dead(user_id=user_id)

    def page(self, channel: str, after: int, at_most: int, *, only_dead: bool) -> list[Row]:
        """Return jobs with an id above `after`, in the order of the ids."""
        read = self._statements.page_of_dead if only_dead else self._statements.page
        rows: list[Row] = read(channel=channel, after=after, at_most=at_most)
        return rows

    def revive(self, job_id: int) -> Row | None:
        """Let a dead job be tried again; return its kind and user, or None if there is none."""
        row: Row | None = self._statements.revive(id=job_id, now=int(self._core.clock()))
        return row

    def drop(self, job_id: int) -> Row | None:
        """Delete a job; return its kind and user, or None if there is none.

        One that is being sent at the moment arrives all the same.
        """
        row: Row | None = self._statements.drop(id=job_id)
        return row

    def prune(self, at_most: int) -> int:
        """Delete dead jobs that are old; return how many."""
        return int(self._statements.prune(until=self._kept_since(), at_most=at_most))

    def prune_expired(self, channel: str, at_most: int) -> int:
        """Delete jobs that wait although they expired long ago; return how many.

        While the channel is on, its sender ends a job that has expired.
        """
        until = self._kept_since()
        pruned = self._statements.prune_expired(channel=channel, until=until, at_most=at_most)
        return int(pruned)

    def _kept_since(self) -> int:
        return int(self._core.clock()) - KEPT_DEAD


def _job(row: Row) -> OutboxJob:
    job_id, kind, user_id, address, data, *others = row
    return OutboxJob(job_id, kind, user_id, address, json.loads(data), *others)
