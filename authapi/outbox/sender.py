"""The outbox's sender: a background service that sends the jobs of one channel in a thread."""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from secrets import SystemRandom
from typing import TYPE_CHECKING, Any

import msgspec

from authapi.background import BackgroundService
from authapi.errors import Unavailable
from authapi.outbox.delivery import Channel, Delivery
from authapi.signals import kept_from_threads

if TYPE_CHECKING:
    from authapi.core import Core

NICE = 10
LONGEST_PAUSE = 0.1  # seconds after a mail

logger = logging.getLogger("authapi.outbox")


class SenderPace(msgspec.Struct, frozen=True):
    """When a process sends, in seconds.

    `tick` is the mean time from a commit to the mails that follow it, `pause` the least between two
    batches, `look_every` the longest time between two looks for what other processes left, `retry`
    from a look that the database stopped. A connection that is unused is kept for `keep`. A stop
    waits for `close_wait` for the mail that is being sent, and then breaks the connection.
    """

    tick: float = 1
    pause: float = 0.01
    look_every: float = 30
    retry: float = 5
    keep: float = 10
    close_wait: float = 3


class OutboxSender(BackgroundService):
    """Sends the jobs of a channel, in a thread that starts at the first wake."""

    def __init__(self, core: Core, channel: Channel[Any]) -> None:
        """Take the core and the channel. No thread starts before a wake."""
        self.pace: SenderPace | None = SenderPace()  # None: nothing is sent but by `run_due`
        self._core, self._channel = core, channel
        self.tell: Callable[[str], None] = lambda _: None  # called with `sent` or `failed`
        super().__init__()

    def begin(self) -> None:
        """Start without a thread and without claims."""
        self.delivery = Delivery(self._core, self._channel, self._count)
        self._starting, self._running = threading.Lock(), threading.Lock()
        self._woken, self._end = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None
        self._channel.forget()

    def wake(self) -> None:
        """Start the thread, unless it runs. It looks by itself for what is due."""
        if self.pace is not None and (self._thread is None or not self._thread.is_alive()):
            with self._starting:
                self._start()

    def written(self) -> None:
        """Let the thread send what was written, after a tick. Call it after the commit.

        SECURITY: the tick is random. The work for a mail, which depends on whether there is such a
        user, must not begin at a time that a client knows, for its next request would feel it.
        """
        self.wake()
        self._woken.set()

    def run_due(self) -> int:
        """Send what is due in the calling thread, without pauses; return how many jobs ended.

        Raises Unavailable.
        """
        ran = 0
        with self._running:
            while claimed := self.delivery.deliver(self._end.is_set):
                ran += claimed
        return ran

    def before_fork(self) -> None:
        """End the thread; a later `wake` starts another."""
        self.close()
        self._end.clear()

    def close(self) -> bool:
        """End the thread after the mail that it sends, and start no other."""
        with self._starting:
            self._end.set()
            thread, self._thread = self._thread, None
        self._woken.set()
        wait = self.pace.close_wait if self.pace else 0
        if thread is not None:
            thread.join(wait)
            if thread.is_alive():
                self._channel.abort()
                thread.join(wait / 2)
            return not thread.is_alive()
        self._channel.close()
        return True

    def _count(self, word: str) -> None:
        self.tell(word)

    def _start(self) -> None:
        if self._end.is_set() or (self._thread is not None and self._thread.is_alive()):
            return
        thread = threading.Thread(target=self._work, name="authapi-outbox", daemon=True)
        with suppress(RuntimeError), kept_from_threads():  # the system may have no thread left
            thread.start()
            self._thread = thread

    def _work(self) -> None:
        """Send what is due until the end."""
        _lower_priority()
        pace = self.pace or SenderPace()
        wait: float | None = 0.0
        try:
            while not self._end.is_set():
                self._rest(wait, pace)
                if not self._end.is_set():
                    wait = self._look(pace)
        finally:
            self._channel.close()

    def _rest(self, wait: float | None, pace: SenderPace) -> None:
        """Wait until something may be due, and then for a tick."""
        wait = pace.look_every if wait is None else min(wait, pace.look_every)
        if not self._woken.wait(min(wait, pace.keep)) and wait > pace.keep:
            self._channel.close()
            self._woken.wait(wait - pace.keep)
        self._woken.clear()
        self._end.wait(pace.tick * SystemRandom().uniform(0.5, 1.5))

    def _spare(self, took: float) -> None:
        """Rest for four times the time that a mail took, which is longer on a busy machine."""
        self._end.wait(min(4 * took, LONGEST_PAUSE))

    def _look(self, pace: SenderPace) -> float | None:
        """Send what is due; return when to look again, in seconds.

        NOTE: the pauses let requests run: a nice value is nothing to the interpreter's lock.
        """
        try:
            with self._running:
                while not self._end.is_set() and self.delivery.deliver(
                    self._end.is_set, self._spare
                ):
                    self._end.wait(pace.pause)
            return self.delivery.seconds_to_next()
        except Unavailable as error:  # what is wrong with the database stands in the log already
            logger.debug("the outbox waits for the database (%s)", error.__cause__)
        except Exception:  # nothing is above a thread
            logger.exception("the outbox failed: it is tried again")
        return pace.retry


def _lower_priority() -> None:
    """Lower the priority of the calling thread, where the system lets it."""
    if sys.platform == "linux":  # elsewhere the number is a process's
        thread = threading.get_native_id()
        with suppress(OSError):
            if os.getpriority(os.PRIO_PROCESS, thread) < NICE:
                os.setpriority(os.PRIO_PROCESS, thread, NICE)
