"""A client's connection: its deadlines, what it makes us keep, and its end."""

from __future__ import annotations

import socket
import time
from contextlib import suppress
from typing import Any

from waitress.channel import HTTPChannel

from authapi import errors
from authapi.hosts import networks_of
from authapi.server.parser import StrictParser
from authapi.server.wsgi import FailureTask, Task

DISCARD_LIMIT = 1_048_576  # bytes that are read and dropped after a failure
RECEIVED = 8_192  # bytes that are read at once
REQUEST_DEADLINE = 10  # seconds from the first byte of a request to its last
SMALL_PIECE = 1_024  # bytes
MOST_SMALL_PIECES = 16  # of a request, until the loop pauses before it reads a further one


class Served:
    """What the loop knows of a connection.

    NOTE: in slots, because the attributes of an object are slower where it has more than 30.
    """

    __slots__ = ("counted", "events", "interest", "is_inline", "is_paused", "is_queued")

    def __init__(self) -> None:
        """Wait for nothing yet."""
        self.counted = 0  # bytes that are in the loop's sum
        self.events = self.interest = 0  # what the socket is ready for; what the loop waits for
        self.is_paused = False  # whether it is not read for a moment
        self.is_queued = False  # whether it waits for its turn
        self.is_inline = False  # whether the loop answers its request


class Channel(Served, HTTPChannel):
    """A client's connection, with a deadline for each request and a gentle end for a failed one.

    It holds one request, and up to a packet of what the client has sent behind it.

    SECURITY: waitress's own timeout starts again with every byte, so that trickling clients could
    hold every connection. It also parses all requests in a packet at once, and they take a hundred
    times the memory of their bytes.

    NOTE: closing a socket with unread bytes resets it, and the client may never see the answer. So
    after a failure our side ends first, and what the client still sends is read and dropped.
    """

    parser_class = StrictParser
    task_class = Task
    error_task_class = FailureTask
    request: StrictParser | None = None  # the one that is arriving
    running: StrictParser | None = None  # the one that a thread is answering
    behind = b""  # what has arrived behind a whole request
    small_pieces = 0  # of the request that is arriving
    began: float | None = None  # monotonic seconds: when we began to wait for a request
    asked = False  # whether a whole request has come
    will_close = False
    close_when_flushed = False
    lingers = False
    to_drop = 0  # bytes, once lingering

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - waitress's
        """Begin to wait for the first request."""
        Served.__init__(self)
        HTTPChannel.__init__(self, *args, **kwargs)
        self.requests: list[StrictParser] = []  # the one that has arrived, until it is answered
        self.began = self.heard = time.monotonic()
        self.peer_networks = tuple(reversed(networks_of(self.addr[0])))
        self.is_proxy = self.server.forwarding.trusts(self.addr[0])

    @property
    def networks(self) -> tuple[str, ...]:
        """The networks that take turns for the connection, widest first.

        While a request of a trusted proxy waits, they are those of the client that it forwards.
        """
        if self.is_proxy and self.requests:
            field = self.requests[0].headers.get("X_FORWARDED_FOR", "")
            client = self.server.forwarding.client(self.addr[0], field)
            return tuple(reversed(networks_of(client)))
        return self.peer_networks

    @property
    def last_activity(self) -> float:
        """When something came or went, in monotonic seconds: a wall clock may be set."""
        return self._last_activity

    @last_activity.setter
    def last_activity(self, _wall_clock: float) -> None:
        self._last_activity = time.monotonic()

    @property
    def is_closed(self) -> bool:
        """Whether the connection has been closed."""
        return self._fileno is None

    @property
    def waits_since(self) -> float | None:
        """When the last request came, or else the client itself; None while a request runs.

        A client that sends the next request meanwhile counts as waiting: it has to expect an end at
        any time (RFC 9112, 9.3.2).
        """
        return self.heard if self.running is None or self.behind else None

    @property
    def kept(self) -> int:
        """The bytes that the client makes us keep in memory."""
        size = len(self.behind) + min(self.total_outbufs_len, self.adj.outbuf_overflow)
        if self.request is not None:
            size += self.request.kept
        size += sum(request.kept for request in self.requests)
        return int(size)

    @property
    def may_proceed(self) -> bool:
        """Whether a next request is there, and the client takes our answers."""
        waits = self.requests or self.total_outbufs_len or self._ends
        return bool(self.behind) and not (waits or self.is_closed)

    @property
    def is_at_rest(self) -> bool:
        """Whether nothing is to be done, and nothing kept, until the client sends something."""
        return self.request is None and not self.to_drop and self.readable()

    @property
    def busy(self) -> bool:
        """Whether a request is running, is being answered, or has its body on the way."""
        arriving = self.request is not None and self.request.headers_finished
        return bool(self.requests or self.total_outbufs_len or arriving)

    @property
    def _ends(self) -> bool:
        return self.will_close or self.close_when_flushed

    # Receiving, in the loop

    def readable(self) -> bool:
        """Whether the loop may read from the client."""
        if self.to_drop:
            return not (self.is_closed or self.is_paused)
        return not (
            self.requests
            or self.behind
            or self.total_outbufs_len
            or self.is_paused
            or self.will_close
            or self.close_when_flushed
            or self._fileno is None
        )

    def handle_read(self) -> None:
        """Read from the client, if anything has come."""
        try:
            data = self.socket.recv(RECEIVED)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.handle_close()
        elif self.to_drop:
            self._drop(len(data))
        else:
            self.last_activity = 0
            self.received(data)

    def _drop(self, dropped: int) -> None:
        """Count bytes that are dropped after a failure."""
        self.to_drop = max(0, self.to_drop - dropped)
        self.will_close = self.will_close or not self.to_drop
        if dropped < SMALL_PIECE:
            self.server.loop.pause(self)

    def received(self, data: bytes) -> bool:
        """Take bytes from the client."""
        if len(data) < SMALL_PIECE:
            self.small_pieces += 1
        self.behind += data
        self.proceed()
        if self.request is not None and self.small_pieces > MOST_SMALL_PIECES:
            self.server.loop.pause(self)
        return True

    def proceed(self) -> None:
        """Parse what has arrived up to the end of a request, and have that answered."""
        with self.requests_lock:
            while self.behind and not (self.requests or self._ends or self.is_closed):
                request = self.request
                if request is None:
                    request = self.request = StrictParser(self.adj)
                    self.began = self.began or time.monotonic()
                self.behind = self.behind[request.received(self.behind) :]
                if request.completed:
                    self._have_answered(request)
                elif not request.header_size:  # blank lines alone
                    self.request = None
                elif request.expect_continue and not self.sent_continue:
                    self.send_continue()

    def _have_answered(self, request: StrictParser) -> None:
        self.request, self.sent_continue = None, False
        self.requests.append(request)
        self.asked, self.heard = request.error is None or self.asked, time.monotonic()
        self.began, self.small_pieces = None, 0
        self.server.add_task(self)

    # Answering, in the loop or in a thread

    def run(self) -> None:
        """Answer the request in a thread, unless the connection was closed while it waited."""
        with self.requests_lock:
            if not self.requests:
                return
            request = self.running = self.requests[0]
        try:
            self.service()
        finally:
            if self.running is request:  # the loop may have begun the next one
                self.running = None
            self.server.touch(self)

    def flush(self, *, do_close: bool = True) -> None:
        """Send what is kept back, also while a request runs."""
        with self.outbuf_lock:
            if self.connected and self.total_outbufs_len:
                self._flush_exception(self._flush_some, do_close)
            if self.total_outbufs_len < self.adj.outbuf_high_watermark:
                self.outbuf_lock.notify()

    def send(self, data: bytes, do_close: bool = True) -> int:  # noqa: FBT001, FBT002 - waitress's
        """Send to the client; return how many bytes went.

        NOTE: a thread must not close the channel under the loop's feet.
        """
        if self.socket is None:  # closed meanwhile
            return 0
        if self.server.is_loop():
            return int(super().send(data, do_close))
        sent = 0
        try:
            sent = int(super().send(data, do_close=False))
        except (OSError, AttributeError) as error:  # an attribute: the loop has closed the socket
            self.will_close = True
            raise BrokenPipeError from error
        finally:
            if sent < len(data):
                self.server.touch(self)  # the rest is the loop's, or the end
        return sent

    def handle_write(self) -> None:
        """Write to the client; end our side first where this lingers."""
        self.flush()
        if not self.connected:
            return
        done = self.close_when_flushed and not self.total_outbufs_len and not self.will_close
        if not self.lingers or not done:
            with self.outbuf_lock:
                super().handle_write()
            return
        self.lingers = self.close_when_flushed = False
        self.to_drop = DISCARD_LIMIT
        self.began = time.monotonic()
        with suppress(OSError):
            self.socket.shutdown(socket.SHUT_WR)

    # Ending, in the loop

    def expire(self) -> None:
        """End a wait that is overdue: answer 408 to a request that has begun, or just close."""
        with self.requests_lock:
            waits = self.began is not None and not self.requests
            if not waits or time.monotonic() - (self.began or 0) < REQUEST_DEADLINE:
                return
            if self.request is None or self.to_drop:
                self.will_close = True
                return
            self.request.refuse(errors.RequestTimeout())
            self._have_answered(self.request)

    def evict(self) -> None:
        """Close, unless a request runs and no other waits. What waits for its turn never runs."""
        with self.requests_lock:
            if self.waits_since is None:
                return
            self.behind, self.is_inline = b"", False
            if self.running is None:
                self.requests.clear()
            self.handle_close()

    def del_channel(self, map: Any = None) -> None:  # noqa: A002, ANN401 - waitress's
        """Leave the loop; called as the connection is closed."""
        self.behind = b""
        self.server.loop.forget(self)
        super().del_channel(map)
