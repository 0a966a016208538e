"""Delivery: claims jobs of the outbox, and sends what is made of them over a channel."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from secrets import SystemRandom
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

import msgspec

from authapi.errors import Unavailable
from authapi.job_claims import PATIENCE
from authapi.outbox import Outbox, OutboxJob

if TYPE_CHECKING:
    from authapi.core import Core

AT_ONCE = 20  # jobs that are claimed in one transaction
STARTS_WITHIN = 20  # seconds after the claim: what is sent then ends before the claim does
WAITS = (5, 30, 120, 600, 1_800, 3_600)  # seconds after each failure of a job, and all later ones
FIRST_REST, LONGEST_REST = 5, 300  # seconds that a channel waits after a failure of its own

Parcel = TypeVar("Parcel")

logger = logging.getLogger("authapi.outbox")


class Refused(Exception):
    """Raised when one job cannot be sent, now or (`is_final`) ever. Others can."""

    def __init__(self, reason: str, *, is_final: bool) -> None:
        """Take the reason, without addresses and secrets."""
        super().__init__(reason)
        self.reason, self.is_final = reason, is_final


class ChannelDown(Exception):
    """Raised when nothing can be sent at the moment. Its text is the reason, without secrets."""


class Channel(Protocol[Parcel]):
    """What sends the jobs of one channel. `name` is in their rows."""

    name: str

    @property
    def is_open(self) -> bool:
        """Return whether it is connected, which it may not be after a job that was refused."""

    def open(self) -> None:
        """Connect, unless it is connected. Raises ChannelDown."""

    def prepare(self, job: OutboxJob) -> Parcel | None:
        """Return what is sent, or None where there is nothing to send any more.

        It is called inside a transaction, and again for each try. Raises Refused, having written
        nothing.
        """

    def send(self, job: OutboxJob, parcel: Parcel) -> None:
        """Send it, within 100 seconds. Raises Refused, and ChannelDown."""

    def failed(self, job: OutboxJob) -> None:
        """Record that a job is dead, inside the transaction in which it dies."""

    def close(self) -> None:
        """Disconnect."""

    def forget(self) -> None:
        """Drop the connection without a word: after a fork it is the parent's."""

    def abort(self) -> None:
        """Let a `send` in another thread fail at once."""


class Counts(msgspec.Struct):
    """What a delivery did since its start."""

    sent: int = 0
    failed: int = 0


class Fault(Exception):
    """Raised to undo a transaction in which a job could not be prepared."""

    def __init__(self, job: OutboxJob) -> None:
        """Take the job."""
        super().__init__(job.kind)
        self.job = job


class Delivery(Generic[Parcel]):
    """Sends the jobs of a channel that are due. One thread uses it at a time."""

    def __init__(self, core: Core, channel: Channel[Parcel], tell: Callable[[str], None]) -> None:
        """Take the core and the channel. `tell` is called with `sent` or `failed` for each job."""
        self._tell = tell
        self._core, self._channel = core, channel
        self._outbox = core.of(Outbox)
        self._sent: set[int] = set()  # whose rows could not be deleted
        self._faulty: set[int] = set()  # that could not be prepared in this batch
        self._rests_until, self._rest = 0.0, 0.0
        self.counts = Counts()

    def seconds_to_next(self) -> float | None:
        """Return in how many seconds something is due; None where nothing waits."""
        wait = self._outbox.seconds_to_next(self._channel.name)
        return None if wait is None else max(wait, self._seconds_of_rest())

    def deliver(
        self, ends: Callable[[], bool], pause: Callable[[float], object] = lambda _: None
    ) -> int:
        """Send what is due, AT_ONCE jobs at most, until `ends`; return how many were claimed.

        `pause` is called after each mail, with the seconds that it took.

        NOTE: the channel connects first, so that one that is down costs no change of the database.
        """
        if self.seconds_to_next() != 0:
            return 0
        try:
            self._channel.open()
        except ChannelDown as error:
            self._take_rest(error)
            return 0
        started = time.monotonic()
        number, parcels = self._claim()
        while parcels:
            is_late = time.monotonic() - started > STARTS_WITHIN
            if is_late or ends() or not self._channel.is_open:
                self._give_back(parcels)
                break
            began = time.monotonic()
            try:
                self._send(*parcels[0])
            except ChannelDown as error:
                self._take_rest(error)
                self._give_back(parcels)
                return 0
            del parcels[0]
            pause(time.monotonic() - began)
        return number

    def _claim(self) -> tuple[int, list[tuple[OutboxJob, Parcel]]]:
        """Claim jobs; return how many, and those that are to be sent."""
        self._faulty.clear()
        while True:
            try:
                return self._claim_once()
            except Fault as fault:
                logger.exception("the mail %s cannot be made: it is tried again", fault.job.kind)
                self._faulty.add(fault.job.id)

    def _claim_once(self) -> tuple[int, list[tuple[OutboxJob, Parcel]]]:
        """NOTE: one transaction for all, so that its time tells little about one of them."""
        with self._core.database.transaction(PATIENCE):
            jobs = self._outbox.claim(self._channel.name, AT_ONCE)
            prepared = [(job, self._prepared(job)) for job in jobs]
        return len(jobs), [(job, parcel) for job, parcel in prepared if parcel is not None]

    def _prepared(self, job: OutboxJob) -> Parcel | None:
        """Return what is sent for a job. One that is not to be sent ends here."""
        if job.id in self._sent:
            self._outbox.done(job)
        elif job.expires_at <= self._core.clock():
            self._die(job, f"not sent in time: {job.error}" if job.error else "not sent in time")
        elif job.id in self._faulty:
            self._put_off(job, "it cannot be made")
        else:
            try:
                parcel = self._channel.prepare(job)
            except Unavailable:
                raise
            except Refused as refused:
                self._put_off(job, refused.reason)
                return None
            except Exception as error:
                raise Fault(job) from error
            if parcel is not None:
                return parcel
            self._outbox.done(job)
        return None

    def _send(self, job: OutboxJob, parcel: Parcel) -> None:
        """Send a job and end it. Raises ChannelDown."""
        try:
            self._channel.send(job, parcel)
        except Refused as refused:
            self._recover()
            with self._core.database.transaction(PATIENCE):
                if refused.is_final:
                    self._die(job, refused.reason)
                else:
                    self._put_off(job, refused.reason)
            return
        self._recover()
        self.counts.sent += 1
        self._tell("sent")
        self._sent.add(job.id)  # until its row is gone
        with self._core.database.transaction(PATIENCE):
            self._outbox.done(job)
        self._sent.discard(job.id)

    def _put_off(self, job: OutboxJob, reason: str) -> None:
        wait = WAITS[min(job.failures, len(WAITS) - 1)] * SystemRandom().uniform(0.8, 1.2)
        if self._core.clock() + wait >= job.expires_at:
            self._die(job, reason)
        else:
            self._outbox.put_off(job, wait, reason)

    def _die(self, job: OutboxJob, reason: str) -> None:
        if self._outbox.die(job, reason):
            self.counts.failed += 1
            self._tell("failed")
            self._channel.failed(job)

    def _give_back(self, parcels: list[tuple[OutboxJob, Parcel]]) -> None:
        """End the claims of jobs that were not sent."""
        with self._core.database.transaction(PATIENCE):
            for job, _ in parcels:
                self._outbox.give_back(job)

    def _seconds_of_rest(self) -> float:
        """Return how long the channel waits. A clock that was set back makes it no longer."""
        return min(max(0.0, self._rests_until - self._core.clock()), self._rest)

    def _take_rest(self, error: ChannelDown) -> None:
        """Let the channel wait, longer each time; log it once."""
        self._channel.close()
        if not self._rest:
            logger.warning("%s waits: %s; it is tried again", self._channel.name, error)
        self._rest = min(max(FIRST_REST, 2 * self._rest), LONGEST_REST)
        self._rests_until = self._core.clock() + self._rest

    def _recover(self) -> None:
        if self._rest:
            logger.warning("%s goes on", self._channel.name)
        self._rest = self._rests_until = 0.0
