"""The server's loop: it waits for sockets, and serves networks in turns."""

from __future__ import annotations

import logging
import selectors
import time
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from selectors import EVENT_READ, EVENT_WRITE
from typing import Any

from authapi.server.channel import Channel
from authapi.server.fairness import FairQueue

TURN = 0.005  # seconds of work before the loop looks at the sockets again
BATCH = 16  # steps before the inline answers that they led to
PAUSE = 0.02  # seconds that a client which sends in small pieces is not read

_ALONE = nullcontext()

logger = logging.getLogger("authapi.server")


class Loop:
    """Serves connections, one step at a time: a read, a write, or an inline answer.

    Networks take turns of one step, so a client with many connections or expensive requests delays
    another network's step by one step of its own.

    NOTE: waitress asks each connection in each turn what it waits for. This loop looks at one after
    each of its steps, and after a thread has changed it, so idle connections cost nothing.
    """

    def __init__(self, answer: Callable[[Channel], None]) -> None:
        """Take what answers a connection's request."""
        self.kept = self.unsent = 0  # bytes of all connections together
        self._answer = answer
        self.flush: Callable[[], None] | None = None  # called after each batch
        self.together: Callable[[], AbstractContextManager[None]] = nullcontext  # several answers
        self._selector = selectors.DefaultSelector()
        self._work: FairQueue[Channel | Callable[[], None]] = FairQueue()
        self._inline: list[Channel] = []  # to be answered in this batch
        self._touched: deque[Channel] = deque()  # by threads
        self._paused: deque[tuple[float, Channel]] = deque()  # until when, in monotonic seconds

    def watch(self, descriptor: int, react: Callable[[], object]) -> None:
        """Call `react` whenever a descriptor that is no connection can be read."""
        self._selector.register(descriptor, EVENT_READ, react)

    def unwatch(self, descriptor: int) -> None:
        """Stop watching a descriptor."""
        self._selector.unregister(descriptor)

    def close(self) -> None:
        """Stop watching everything."""
        self._selector.close()

    def wait(self, seconds: float) -> None:
        """Wait until there is work, for so many seconds at most."""
        if self._work:
            seconds = 0
        elif self._paused:
            seconds = min(seconds, max(0, self._paused[0][0] - time.monotonic()))
        for key, events in self._selector.select(seconds):
            ready = key.data
            if isinstance(ready, Channel):
                ready.events |= events
                self.enqueue(ready)
            else:
                ready()
        while self._touched:
            self.settle(self._touched.popleft())
        while self._paused and self._paused[0][0] <= time.monotonic():
            _, channel = self._paused.popleft()
            channel.is_paused = False
            self.settle(channel)

    def work(self) -> None:
        """Work for TURN seconds at most.

        NOTE: many reads and then many answers take less CPU time than each answer after its read.
        """
        ends = time.monotonic() + TURN
        while self._work and time.monotonic() < ends:
            for _ in range(BATCH):
                step = self._work.get()
                if step is None:
                    break
                _attempt(self._advance if isinstance(step, Channel) else _call, step)
            with self.together() if len(self._inline) > 1 else _ALONE:
                for channel in self._inline:
                    _attempt(self._finish, channel)
            self._inline.clear()
            if self.flush:
                self.flush()

    def put(self, networks: tuple[str, ...], step: Callable[[], None]) -> None:
        """Do a step in the turn of its networks, which are given widest first."""
        self._work.put(networks, step)

    def begin(self, channel: Channel) -> None:
        """Serve a new connection, whose first request has often come with it."""
        channel.events = EVENT_READ
        _attempt(self._advance, channel)

    def enqueue(self, channel: Channel) -> None:
        """Serve a connection when it is its network's turn."""
        if not channel.is_queued:
            channel.is_queued = True
            self._work.put(channel.networks, channel)

    def settle(self, channel: Channel) -> None:
        """Wait for what a connection needs next, and count the bytes that it takes."""
        is_settled = channel.interest == EVENT_READ and not channel.counted and channel.is_at_rest
        if is_settled or channel.is_closed:
            return
        self._count(channel, channel.kept, channel.total_outbufs_len)
        if channel.may_proceed:
            self.enqueue(channel)
        wanted = EVENT_READ * channel.readable() | EVENT_WRITE * bool(channel.writable())
        if wanted == channel.interest or channel.looks_up:
            return
        if wanted and channel.interest:
            self._selector.modify(channel.socket, wanted, channel)
        elif wanted:
            self._selector.register(channel.socket, wanted, channel)
        elif channel.interest:
            self._selector.unregister(channel.socket)
        channel.interest = wanted

    def touch(self, channel: Channel) -> None:
        """Settle a connection that a thread has changed. The thread has to wake the loop."""
        self._touched.append(channel)

    def pause(self, channel: Channel) -> None:
        """Read nothing more of a connection for a moment.

        SECURITY: reading one byte costs as much as reading a whole packet.
        """
        channel.is_paused = True
        self._paused.append((time.monotonic() + PAUSE, channel))

    def forget(self, channel: Channel) -> None:
        """Stop serving a connection, because it is being closed."""
        self._count(channel, 0, 0)
        if channel.interest:
            self._selector.unregister(channel.socket)
            channel.interest = 0

    def _advance(self, channel: Channel) -> None:
        """Do the next step of a connection: write, read, or parse what has arrived."""
        events, channel.events, channel.is_queued = channel.events, 0, False
        if channel.looks_up:  # the client sends more, or has gone, while its request waits
            channel.looks_up = False
        if events & EVENT_WRITE and channel.writable():
            channel.handle_write()
        if events & EVENT_READ and channel.readable():
            channel.handle_read()
        elif channel.may_proceed:
            channel.proceed()
        if channel.is_inline:
            self._inline.append(channel)
        else:
            self.settle(channel)

    def _finish(self, channel: Channel) -> None:
        self._answer(channel)
        self.settle(channel)

    def _count(self, channel: Channel, kept: int, unsent: int) -> None:
        self.kept += kept - channel.counted
        self.unsent += unsent - channel.waiting
        channel.counted, channel.waiting = kept, unsent


def _attempt(do: Callable[[Any], None], step: Any) -> None:  # noqa: ANN401 - either kind
    """Do a step. A failure of ours ends its connection, and not the loop."""
    try:
        do(step)
    except (Exception, SystemExit):  # nothing is above the loop; an application may raise both
        logger.exception("a connection failed")
        if isinstance(step, Channel):
            step.handle_close()


def _call(step: Callable[[], None]) -> None:
    step()
