"""The server, on waitress: deadlines, limits, the loop."""

from __future__ import annotations

import logging
import math
import socket
import threading
import time
from collections import deque
from contextlib import suppress
from typing import Any

from waitress.adjustments import Adjustments
from waitress.channel import HTTPChannel
from waitress.server import TcpWSGIServer
from waitress.task import ThreadedTaskDispatcher
from waitress.wasyncore import dispatcher, loop

from authapi import errors
from authapi.app import AuthAPI
from authapi.crowding import SHARE, least_worth
from authapi.forwarded import Forwarding
from authapi.hosts import network_of
from authapi.parser import FRAMED_LIMIT, StrictParser
from authapi.tasks import FailureTask, Task

HEADER_LIMIT = 16_384  # bytes, request line included
DISCARD_LIMIT = 1_048_576  # bytes that are read and dropped after a failure
MOST_CONNECTIONS = 1_000
SEND_BYTES = 16_384  # an answer up to this size leaves in one piece
IDLE_TIMEOUT = 60  # seconds that a kept-alive connection may be silent
REQUEST_DEADLINE = 10  # seconds from the first byte of a request to its last
MAINTENANCE_INTERVAL = 1  # seconds
MOST_ACCEPTED = 32  # connections in a turn of the loop
MOST_ANSWERED = 100  # requests in a turn of the loop, so that new connections are taken meanwhile
DRAIN_DEADLINE = 8  # seconds that a stop waits for running requests; containers wait for 10

logger = logging.getLogger("authapi.server")


class Channel(HTTPChannel):
    """A client's connection, with a deadline for each request and a gentle end for a failed one.

    SECURITY: waitress's own timeout starts again with every byte, so that trickling clients could
    hold every connection.

    NOTE: closing a socket with unread bytes resets it, and the client may never see the answer. So
    after a failure our side ends first, and what the client still sends is read and dropped.
    """

    parser_class = StrictParser
    task_class = Task
    error_task_class = FailureTask
    request: Any = None  # the one that is arriving
    began: float | None = None  # monotonic seconds: when we began to wait for a request
    will_close = False
    close_when_flushed = False
    lingers = False
    to_drop = 0  # bytes, once lingering
    asked = False  # whether a whole request has come

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - waitress's
        """Begin to wait for the first request."""
        super().__init__(*args, **kwargs)
        self.began = self.heard = time.monotonic()
        host = self.addr[0]
        self.host = network_of(host) if ":" in host else host

    @property
    def last_activity(self) -> float:
        """When something came or went, in monotonic seconds: a wall clock may be set."""
        return self._last_activity

    @last_activity.setter
    def last_activity(self, _wall_clock: float) -> None:
        self._last_activity = time.monotonic()

    @property
    def waits_since(self) -> float | None:
        """When its last request began to run, or else it itself came; None while one runs.

        Who asks ahead has to expect an end at any time (RFC 9112, 9.3.2), and counts as waiting.
        """
        return None if len(self.requests) == 1 else self.heard

    def received(self, data: bytes) -> bool:
        """Take bytes from the client; the first ones after a request begin the next."""
        if self.began is None:
            self.began = time.monotonic()
        return bool(super().received(data))

    def handle_expt(self) -> None:
        """Close: TCP's urgent data, which no HTTP client sends, would wake the loop for ever."""
        self.handle_close()

    def readable(self) -> bool:
        """Whether the loop may read from the client."""
        return bool(self.to_drop or super().readable())

    def handle_read(self) -> None:
        """Read from the client."""
        if self.to_drop:
            self.to_drop = max(0, self.to_drop - len(self.recv(65_536)))
            self.will_close = self.will_close or not self.to_drop
        else:
            super().handle_read()

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

    def flush(self, *, do_close: bool = True) -> None:
        """Send what is kept back, also while a request runs."""
        with self.outbuf_lock:
            if self.connected and self.total_outbufs_len:
                self._flush_exception(self._flush_some, do_close)
            if self.total_outbufs_len < self.adj.outbuf_high_watermark:
                self.outbuf_lock.notify()

    def send(self, data: bytes, do_close: bool = True) -> int:  # noqa: FBT001, FBT002 - waitress's
        """Send to the client; return how many bytes went.

        NOTE: waitress lets a worker that says 100 close the channel, under the loop's feet.
        """
        if self.socket is None:  # closed meanwhile
            return 0
        if self.server.is_loop():
            return int(super().send(data, do_close))
        try:
            return int(super().send(data, do_close=False))
        except (OSError, AttributeError) as error:  # an attribute: the loop has closed the socket
            self.will_close = True
            if do_close:
                return 0
            raise BrokenPipeError from error

    def expire(self) -> None:
        """End a wait that is overdue: answer 408 to a request that has begun, or just close."""
        with self.requests_lock:
            if self.began is None and self.request is not None and not self.requests:
                self.began = time.monotonic()  # it began in one packet with the last one
            waits = self.began is not None and not self.requests
            if not waits or time.monotonic() - (self.began or 0) < REQUEST_DEADLINE:
                return
            if self.request is None or self.to_drop:
                self.will_close = True
            else:
                self.request.error = errors.RequestTimeout()
                self.requests.append(self.request)
                self.request = None
                self.server.add_task(self)

    def turn_out(self) -> None:
        """Close, unless a request has begun to run meanwhile; what was asked ahead never runs."""
        with self.requests_lock:
            if self.waits_since is not None:
                self.handle_close()
                del self.requests[1:]

    @property
    def busy(self) -> bool:
        """Whether a request is running, is being answered, or has its body on the way."""
        arriving = self.request is not None and self.request.headers_finished
        return bool(self.requests or self.total_outbufs_len or arriving)


def _adjustments(listener: socket.socket, threads: int, connections: int) -> Any:  # noqa: ANN401
    """Waitress's own settings."""
    adjustments = Adjustments(
        sockets=[listener],
        asyncore_use_poll=True,
        channel_request_lookahead=0,
        channel_timeout=IDLE_TIMEOUT,
        clear_untrusted_proxy_headers=False,
        connection_limit=connections,
        ident="",
        log_socket_errors=False,
        max_request_body_size=FRAMED_LIMIT,
        max_request_header_size=HEADER_LIMIT,
        threads=threads,
    )
    adjustments.send_bytes = SEND_BYTES
    return adjustments


class Server(TcpWSGIServer):
    """Waitress on a socket that is bound already, with a stop that lets requests finish."""

    channel_class = Channel
    next_channel_cleanup = math.inf  # NOTE: never in the midst of a poll, as waitress would
    _maintained = 0.0  # monotonic seconds

    def __init__(
        self,
        app: AuthAPI,
        listener: socket.socket,
        threads: int,
        connections: int = MOST_CONNECTIONS,
    ) -> None:
        """Start the threads and accept connections; `run` answers them."""
        self.wire = app.core.wire
        self.stopping = False
        self.forwarding = Forwarding(app.core.settings, app.core.notices)
        self._is_quick, self._maintain = app.is_quick, app.maintain
        self._quick: deque[Channel] = deque()
        self._loop_thread = threading.get_ident()
        self._trigger_lock = threading.RLock()  # a signal handler may call `stop` anywhere
        self._ended = False
        tasks = ThreadedTaskDispatcher()
        tasks.set_thread_count(threads)
        adjustments = _adjustments(listener, threads, connections)
        super().__init__(
            app,
            {},
            _sock=listener,
            dispatcher=tasks,
            adj=adjustments,
            sockinfo=(listener.family, listener.type, listener.proto, listener.getsockname()),
            bind_socket=False,
        )

    def handle_accept(self) -> None:
        """Take those that wait, several in a turn: with many connections turns are long."""
        for _ in range(MOST_ACCEPTED):
            before = len(self._map)
            super().handle_accept()
            if not before < len(self._map) < self.adj.connection_limit:
                break

    def maintenance(self, now: float) -> None:
        """Close what is idle or overdue, and have the application look after itself.

        NOTE: not left to the loop, which waits with it until a client reads what fills its buffer.
        """
        super().maintenance(now)
        self._maintain()
        for channel in list(self.active_channels.values()):
            channel.expire()
            if channel.will_close:
                channel.handle_close()

    def _make_room(self) -> None:
        """Turn out the connections that are worth least, where few places are left."""
        places = self.adj.connection_limit
        if len(self._map) >= places - places // SHARE:
            for channel in least_worth(self.active_channels.values()):
                channel.turn_out()

    def add_task(self, channel: Channel) -> None:
        """Have a channel's next request answered: a quick one here in the loop, others by a thread.

        NOTE: a session check takes less time than handing it to a thread, which then competes with
        all the others for the interpreter lock; and no login can keep one waiting.
        """
        channel.began = None
        request = channel.requests[0]
        channel.asked, channel.heard = request.error is None or channel.asked, time.monotonic()
        held_up = channel.total_outbufs_len >= SEND_BYTES  # the client does not read
        quick = request.error is not None or self._is_quick(request.command, request.path)
        if quick and not held_up:
            self._quick.append(channel)
        else:
            super().add_task(channel)

    def pull_trigger(self) -> None:
        """Wake the loop, unless this is the loop."""
        if not self.is_loop():
            self._wake()

    def _wake(self) -> None:
        with self._trigger_lock:  # a descriptor that is closed may soon be another file's
            if not self._ended:
                self.trigger.pull_trigger()

    def is_loop(self) -> bool:
        """Whether the caller is the thread that runs the loop."""
        return threading.get_ident() == self._loop_thread

    def run(self) -> None:
        """Answer requests until `stop`, then let those that run finish."""
        self._loop_thread = threading.get_ident()
        while not self.stopping:
            self._turn(timeout=MAINTENANCE_INTERVAL)
        self._maintain()  # before another service can have the port
        dispatcher.close(self)  # the listener alone: workers still pull the trigger
        deadline = time.monotonic() + DRAIN_DEADLINE
        while self._close_idle() and time.monotonic() < deadline:
            self._turn(timeout=0.05)
        self.task_dispatcher.shutdown(timeout=1)
        for channel in list(self.active_channels.values()):
            channel.handle_close()
        with self._trigger_lock:
            self._ended = True
            self.trigger.close()

    def stop(self) -> None:
        """Make `run` end; from another thread or a signal handler."""
        self.stopping = True
        self._wake()

    def _turn(self, timeout: float) -> None:
        """Wait for the sockets once, then answer what is quick."""
        loop(timeout=0 if self._quick else timeout, use_poll=True, map=self._map, count=1)
        self._make_room()
        if time.monotonic() >= self._maintained + MAINTENANCE_INTERVAL:
            self._maintained = time.monotonic()
            self.maintenance(self._maintained)
        for _ in range(min(len(self._quick), MOST_ANSWERED)):  # the others wait for their turn
            channel = self._quick.popleft()
            try:
                channel.service()
            except errors.HandOver:
                super().add_task(channel)

    def _close_idle(self) -> bool:
        """Close the connections with nothing to do; tell whether any are left."""
        for channel in list(self.active_channels.values()):
            if not channel.busy:
                channel.handle_close()
        return bool(self.active_channels)
