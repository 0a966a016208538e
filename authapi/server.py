"""The server, on waitress: it accepts connections, bounds them, and ends."""

from __future__ import annotations

import math
import socket
import threading
import time
from typing import Any

from waitress import wasyncore
from waitress.adjustments import Adjustments
from waitress.server import TcpWSGIServer

from authapi import errors
from authapi.app import AuthAPI
from authapi.channel import Channel
from authapi.eviction import SHARE, heaviest, least_worth
from authapi.forwarded import Forwarding
from authapi.loop import Loop
from authapi.pool import Pool

MOST_CONNECTIONS = 1_000
KEPT_LIMIT = 8 << 20  # bytes that all connections together may make us keep
OVERFLOW = 262_144  # bytes of an answer that wait in memory for the client; more wait in a file
SEND_BYTES = 16_384  # an answer up to this size leaves in one piece
IDLE_TIMEOUT = 60  # seconds that a kept-alive connection may be silent
MAINTENANCE_INTERVAL = 1  # seconds
MOST_ACCEPTED = 32  # connections in a turn of the loop
DRAIN_DEADLINE = 8  # seconds that a stop waits for running requests; containers wait for 10


def _adjustments(listener: socket.socket, threads: int, connections: int) -> Any:  # noqa: ANN401
    """Waitress's own settings."""
    adjustments = Adjustments(
        sockets=[listener],
        channel_timeout=IDLE_TIMEOUT,
        clear_untrusted_proxy_headers=False,
        connection_limit=connections,
        ident="",
        log_socket_errors=False,
        outbuf_overflow=OVERFLOW,
        threads=threads,
    )
    adjustments.send_bytes = SEND_BYTES
    return adjustments


class Server(TcpWSGIServer):
    """Waitress on a socket that is bound already, with a loop and a thread pool of our own.

    It evicts connections when few places are left, or when they make us keep too much, and its stop
    lets requests finish.
    """

    channel_class = Channel
    next_channel_cleanup = math.inf  # NOTE: `run` calls `maintenance` itself
    _maintained = 0.0  # monotonic seconds
    _listens = False

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
        self.loop = Loop(self._answer)
        self._loop_thread = threading.get_ident()
        self._trigger_lock = threading.RLock()  # a signal handler may call `stop` anywhere
        self._ended = False
        super().__init__(
            app,
            {},
            _sock=listener,
            dispatcher=Pool(threads),
            adj=_adjustments(listener, threads, connections),
            sockinfo=(listener.family, listener.type, listener.proto, listener.getsockname()),
            bind_socket=False,
        )
        self.loop.watch(self.trigger.socket.fileno(), self.trigger.handle_read)

    # For waitress and for channels

    def handle_accept(self) -> None:
        """Accept the connections that wait, up to MOST_ACCEPTED."""
        for _ in range(MOST_ACCEPTED):
            before = len(self._map)
            super().handle_accept()
            if len(self._map) == before or not self.readable():
                break

    def readable(self) -> bool:
        """Return whether there is a place for another connection."""
        return self.accepting and len(self._map) < self.adj.connection_limit

    def maintenance(self, now: float) -> None:
        """Close what is idle or overdue, and have the application look after itself."""
        super().maintenance(now)
        self._maintain()
        for channel in list(self.active_channels.values()):
            channel.expire()
            if channel.is_quick:
                self.loop.enqueue(channel)
            if channel.will_close:
                channel.handle_close()

    def add_task(self, channel: Channel) -> None:
        """Have a channel's request answered: a quick one by the loop, others by a thread.

        NOTE: a session check takes less time than handing it to a thread, which then competes with
        all the others for the interpreter lock; and no login can keep one waiting.
        """
        request = channel.requests[0]
        channel.is_quick = bool(request.error or self._is_quick(request.command, request.path))
        if not channel.is_quick:
            self.task_dispatcher.add(channel)

    def _answer(self, channel: Channel) -> None:
        channel.is_quick = False
        try:
            channel.service()
        except errors.HandOver:
            self.task_dispatcher.add(channel)
        else:
            if channel.close_when_flushed and not channel.is_closed:
                wasyncore.write(channel)

    def touch(self, channel: Channel) -> None:
        """Have the loop look at a connection that a thread has changed."""
        self.loop.touch(channel)
        self._wake()

    def pull_trigger(self) -> None:
        """Do nothing: waitress does not say which channel a thread has changed, `touch` does."""

    def is_loop(self) -> bool:
        """Return whether the caller is the thread that runs the loop."""
        return threading.get_ident() == self._loop_thread

    # From the start to the end

    def run(self) -> None:
        """Answer requests until `stop`, then let those that run finish."""
        self._loop_thread = threading.get_ident()
        while not self.stopping:
            self._turn(MAINTENANCE_INTERVAL)
        self._maintain()  # before another service can have the port
        self.accepting = False
        self._listen()
        wasyncore.dispatcher.close(self)  # the listener alone: threads still pull the trigger
        deadline = time.monotonic() + DRAIN_DEADLINE
        while self._close_idle() and time.monotonic() < deadline:
            self._turn(0.05)
        self.task_dispatcher.shutdown(1)
        for channel in list(self.active_channels.values()):
            channel.handle_close()
        with self._trigger_lock:
            self._ended = True
            self.trigger.close()
        self.loop.close()

    def stop(self) -> None:
        """Make `run` end; from another thread or a signal handler."""
        self.stopping = True
        self._wake()

    def _wake(self) -> None:
        with self._trigger_lock:  # a descriptor that is closed may soon be another file's
            if not self._ended:
                self.trigger.pull_trigger()

    def _turn(self, seconds: float) -> None:
        """Wait for the sockets, at most so long, then work for a while."""
        self._listen()
        self.loop.wait(seconds)
        self._make_room()
        if time.monotonic() >= self._maintained + MAINTENANCE_INTERVAL:
            self._maintained = time.monotonic()
            self.maintenance(self._maintained)
        self.loop.work()

    def _listen(self) -> None:
        """Wait for connections while there are places for them."""
        wanted = self.readable()
        if wanted and not self._listens:
            self.loop.watch(self.socket.fileno(), self.handle_accept)
        elif self._listens and not wanted:
            self.loop.unwatch(self.socket.fileno())
        self._listens = wanted

    def _make_room(self) -> None:
        """Evict connections where few places are left, or where they make us keep too much."""
        places, chosen = self.adj.connection_limit, []
        if len(self._map) >= places - places // SHARE:
            chosen += least_worth(self.active_channels.values())
        excess = self.loop.kept - KEPT_LIMIT
        if excess > 0:
            chosen += heaviest(self.active_channels.values(), excess + KEPT_LIMIT // SHARE)
        for channel in chosen:
            channel.evict()

    def _close_idle(self) -> bool:
        """Close the connections with nothing to do; tell whether any are left."""
        for channel in list(self.active_channels.values()):
            if not channel.busy:
                channel.handle_close()
        return bool(self.active_channels)
