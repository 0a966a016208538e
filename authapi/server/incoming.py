"""The receiving half of a connection: it parses requests, one at a time, and bounds them."""

from __future__ import annotations

from typing import Any

from waitress.channel import HTTPChannel

from authapi.hosts import networks_of
from authapi.server.parser import StrictParser, known_request

RECEIVED = 8_192  # bytes that are read at once
SMALL_PIECE = 1_024  # bytes
MOST_SMALL_PIECES = 16  # of a request, before the loop pauses to read a further one


class Served:
    """The loop's own data about a connection.

    NOTE: in slots, because the attributes of an object are slower where it has more than 30.
    """

    __slots__ = (
        *("counted", "events", "interest", "is_inline", "is_paused", "is_queued", "looks_up"),
        "waiting",
    )

    def __init__(self) -> None:
        """Wait for nothing yet."""
        self.counted = self.waiting = 0  # bytes that are in the loop's sums: kept, and unsent
        self.events = self.interest = 0  # what the socket is ready for; what the loop waits for
        self.is_paused = False  # whether it is not read for a moment
        self.is_queued = False  # whether it waits for its turn
        self.is_inline = False  # whether the loop answers its request
        self.looks_up = False  # whether the request waits for a row of the database


class Incoming(Served, HTTPChannel):
    """Receives one request at a time, and keeps up to a packet of what follows it.

    SECURITY: waitress's own timeout starts again with each byte, so trickling clients could hold
    every connection. It also parses all requests in a packet at once, and they take a hundred
    times the memory of their bytes.
    """

    parser_class = StrictParser
    request: StrictParser | None = None  # the one that is arriving
    behind = b""  # what has arrived behind a whole request
    small_pieces = 0  # of the request that is arriving
    began: float | None = None  # monotonic seconds: when we began to wait for a request
    asked = False  # whether a whole request has come
    will_close = False
    close_when_flushed = False
    to_drop = 0  # bytes that are still to be read and dropped, after a failure
    _last_activity: float  # monotonic seconds

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - waitress's
        """Begin to wait for the first request."""
        Served.__init__(self)
        HTTPChannel.__init__(self, *args, **kwargs)
        self.requests: list[StrictParser] = []  # the one that has arrived, until it is answered
        self.began = self.heard = self.server.clock()
        self.peer_networks = tuple(reversed(networks_of(self.addr[0])))
        self.is_proxy = self.server.forwarding.trusts(self.addr[0])

    @property
    def last_activity(self) -> float:
        """When something came or went, in monotonic seconds: a wall clock may be set."""
        return self._last_activity

    @last_activity.setter
    def last_activity(self, _wall_clock: float) -> None:
        self._last_activity = self.server.clock()

    @property
    def is_closed(self) -> bool:
        """Return whether the connection has been closed."""
        return self._fileno is None

    @property
    def kept(self) -> int:
        """The bytes of memory that the client takes."""
        size = len(self.behind) + min(self.total_outbufs_len, self.adj.outbuf_overflow)
        if self.request is not None:
            size += self.request.kept
        size += sum(request.kept for request in self.requests)
        return int(size)

    @property
    def may_proceed(self) -> bool:
        """Return whether a next request is there, and the client takes our answers."""
        waits = self.requests or self.total_outbufs_len or self._ends
        return bool(self.behind) and not (waits or self.is_closed)

    @property
    def is_at_rest(self) -> bool:
        """Return whether nothing is to be done, and nothing kept, until the client sends more."""
        return self.request is None and not self.to_drop and self.readable()

    @property
    def _ends(self) -> bool:
        return self.will_close or self.close_when_flushed

    def readable(self) -> bool:
        """Return whether the loop may read from the client."""
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
            self._last_activity = self.server.clock()
            self.received(data)

    def _drop(self, dropped: int) -> None:
        """Count bytes that are dropped after a failure."""
        self.to_drop = max(0, self.to_drop - dropped)
        self.will_close = self.will_close or not self.to_drop
        if dropped < SMALL_PIECE:
            self.server.loop.pause(self)

    def received(self, data: bytes) -> bool:
        """Take bytes from the client."""
        known = None if self.behind or self.request else known_request(data, self.adj)
        if known is not None:
            with self.requests_lock:
                if not (self.requests or self.will_close or self.close_when_flushed):
                    self.pass_on(known)
                    return True
        if len(data) < SMALL_PIECE:
            self.small_pieces += 1
        self.behind += data
        self.proceed()
        if self.request is not None and self.small_pieces > MOST_SMALL_PIECES:
            self.server.loop.pause(self)
        return True

    def proceed(self) -> None:
        """Parse what has arrived up to the end of a request, and pass that on."""
        with self.requests_lock:
            while self.behind and not (self.requests or self._ends or self.is_closed):
                request = self.request
                if request is None:
                    request = self.request = StrictParser(self.adj)
                    self.began = self.began or self.server.clock()
                self.behind = self.behind[request.received(self.behind) :]
                if request.completed:
                    self.pass_on(request)
                elif not request.header_size:  # blank lines alone
                    self.request = None
                elif request.expect_continue and not self.sent_continue:
                    self.send_continue()

    def pass_on(self, request: StrictParser) -> None:
        """Pass on a request to be answered, as it is whole or refused."""
        self.request, self.sent_continue = None, False
        self.requests.append(request)
        self.asked, self.heard = request.error is None or self.asked, self.server.clock()
        self.began, self.small_pieces = None, 0
        self.server.add_task(self)
