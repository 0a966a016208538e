"""Look-ups: rows that requests need of a database for which the server's loop must not wait.

While few batches are under way, a key is sent after its batch of the loop's steps. Otherwise it
waits, and the next batch is larger: the busier the server, the less does a look-up cost.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence

import msgspec

from authapi.app import AuthAPI
from authapi.database import Key, NoConnection, Pipeline, Row
from authapi.errors import Unavailable
from authapi.inline import with_row
from authapi.server.channel import Channel
from authapi.server.loop import Loop
from authapi.server.parser import StrictParser

UNDER_WAY = 4  # batches at once
MOST = 256  # keys of a batch
UNSENT_POLL = 0.01  # seconds, while the socket takes no more


class Asked(msgspec.Struct, frozen=True):
    """A key that a request waits for, since a time in monotonic seconds."""

    channel: Channel
    request: StrictParser
    key: Key
    since: float


class LookUps:
    """Collects keys, sends them in batches, and lets the loop run the requests with their rows.

    Where the database does not answer within the pipeline's deadline, every request that waits is
    answered 503.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        foreseen: Callable[[Mapping[str, str]], Key | None],
        loop: Loop,
        leave: Callable[[Channel], None],
        wake: Callable[[], None],
    ) -> None:
        """Take the pipeline, what foresees a request's key, what gives it to a thread, and `wake`.

        Any thread may call `wake`, which makes the loop take its next turn.
        """
        self._pipeline, self._foreseen = pipeline, foreseen
        self._loop, self._leave, self._wake = loop, leave, wake
        self._waiting: deque[Asked] = deque()
        self._under_way: deque[tuple[float, list[Asked]]] = deque()  # since when
        self._watched: int | None = None

    def ask(self, channel: Channel, key: Key) -> None:
        """Look a key up for the request of a connection, which the loop then runs again."""
        self._waiting.append(Asked(channel, channel.requests[0], key, time.monotonic()))
        channel.is_inline, channel.looks_up = False, True

    def foresee(self, channel: Channel) -> None:
        """Look up what a request will need, if that is known before its first run."""
        request = channel.requests[0]
        key = None if request.error else self._foreseen(request.headers)
        if key:
            self.ask(channel, key)

    def patience(self, seconds: float) -> float:
        """Do what is due; return how long the loop may wait, for so many seconds at most."""
        self.flush()
        since = self._oldest()
        if since is None:
            return seconds
        try:
            if self._pipeline.push():
                seconds = min(seconds, UNSENT_POLL)
        except ConnectionError:
            self._lose()
        return max(0, min(seconds, since + self._pipeline.deadline - time.monotonic()))

    def flush(self) -> None:
        """Send the keys that wait, after a batch of the loop's steps. Notice what is overdue."""
        since = self._oldest()
        if since is None:
            return
        try:
            if since + self._pipeline.deadline <= time.monotonic():
                self._unwatch()
                self._pipeline.fail()
            while self._waiting and len(self._under_way) < UNDER_WAY and self._is_ready():
                self._send()
        except ConnectionError:
            self._lose()
        except NoConnection:
            self._leave_all()
        except Unavailable as unavailable:
            self._give_up(unavailable)

    def close(self) -> None:
        """Close the connection."""
        self._unwatch()
        self._pipeline.close()

    def _oldest(self) -> float | None:
        """Return since when the database owes an answer; None where it owes none."""
        if self._under_way:
            return self._under_way[0][0]
        return self._waiting[0].since if self._waiting else None

    def _is_ready(self) -> bool:
        if self._pipeline.is_worn and not self._under_way:
            self._unwatch()
            self._pipeline.drop()
        if not self._pipeline.is_ready(self._wake):
            return False
        if self._watched is None and self._pipeline.descriptor is not None:
            self._watched = self._pipeline.descriptor
            self._loop.watch(self._watched, self._receive)
        return True

    def _send(self) -> None:
        batch = [self._waiting.popleft() for _ in range(min(MOST, len(self._waiting)))]
        self._under_way.append((time.monotonic(), batch))
        self._pipeline.send([asked.key for asked in batch])

    def _receive(self) -> None:
        """Take what has come, in the loop."""
        try:
            answered = self._pipeline.receive()
        except ConnectionError:
            self._lose()
        except NoConnection:
            self._unwatch()
            self._leave_all()
        else:
            for rows in answered:
                _, batch = self._under_way.popleft()
                for asked, row in zip(batch, rows, strict=True):
                    self._answer(asked, row)

    def _answer(self, asked: Asked, row: Row | Unavailable | None) -> None:
        if _waits(asked):
            asked.request.kept_by_loop = with_row(asked.request.kept_by_loop, asked.key, row)
            asked.channel.is_inline, asked.channel.looks_up = True, False
            self._loop.enqueue(asked.channel)

    def _lose(self) -> None:
        """Ask again on another connection, until the deadline: look-ups change nothing."""
        self._unwatch()
        lost = [asked for _, batch in self._under_way for asked in batch]
        self._under_way.clear()
        self._waiting.extendleft(reversed(lost))
        self._wake()

    def _leave_all(self) -> None:
        """Leave the requests to threads: their connections are open, and the loop can have none."""
        for asked in self._taken():
            if _waits(asked):
                asked.channel.looks_up = False
                self._leave(asked.channel)

    def _give_up(self, unavailable: Unavailable) -> None:
        for asked in self._taken():
            self._answer(asked, unavailable)

    def _taken(self) -> Sequence[Asked]:
        """Return all that wait for an answer, which wait no longer."""
        taken = [asked for _, batch in self._under_way for asked in batch] + [*self._waiting]
        self._under_way.clear()
        self._waiting.clear()
        return taken

    def _unwatch(self) -> None:
        """Stop watching the connection. NOTE: its descriptor may be closed already."""
        if self._watched is not None:
            self._loop.unwatch(self._watched)
            self._watched = None


def look_ups_of(
    app: AuthAPI, loop: Loop, leave: Callable[[Channel], None], wake: Callable[[], None]
) -> LookUps | None:
    """Return an application's look-ups, which the loop sends; None where it needs none."""
    pipeline = app.look_ups.pipeline()
    if pipeline is None:
        return None
    look_ups = LookUps(pipeline, app.look_ups.foreseen, loop, leave, wake)
    loop.flush = look_ups.flush
    return look_ups


def _waits(asked: Asked) -> bool:
    """Return whether a request still waits: its connection may have been closed meanwhile."""
    requests = asked.channel.requests
    return bool(requests) and requests[0] is asked.request and not asked.channel.is_closed
