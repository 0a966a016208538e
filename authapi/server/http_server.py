"""The server, on waitress: it accepts connections, bounds them, and ends."""

from __future__ import annotations

import math
import socket
import threading
import time
from functools import partial
from typing import Any

from waitress import wasyncore
from waitress.adjustments import Adjustments
from waitress.server import TcpWSGIServer

from authapi.app import AuthAPI
from authapi.hosts import networks_of
from authapi.inline import HandOver
from authapi.server.channel import Channel
from authapi.server.eviction import SHARE, heaviest, least_worth
from authapi.server.forwarded import Forwarding
from authapi.server.loop import Loop
from authapi.server.pool import Pool

MOST_CONNECTIONS = 1_000
KEPT_LIMIT = 8 << 20  # bytes that all connections together may make us keep
OVERFLOW = 262_144  # bytes of an answer that wait in memory for the client; more wait in a file
SEND_BYTES = 16_384  # an answer up to this size leaves in one piece
IDLE_TIMEOUT = 60  # seconds that a kept-alive connection may be silent
MAINTENANCE_INTERVAL = 1  # seconds
ACCEPTING = 0.002  # seconds that a turn of the loop accepts connections
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


class Accepted:
    """A connection that is accepted, and is opened when it is its network's turn."""

    kept = 0  # bytes
    asked = True  # nobody has looked yet

    def __init__(self, connection: socket.socket, address: Any) -> None:  # noqa: ANN401 - socket's
        """Take what `accept` returned."""
        self.connection, self.address = connection, address
        self.peer_networks = tuple(reversed(networks_of(address[0])))
        self.waits_since = time.monotonic()

    def evict(self) -> None:
        """Close the connection. Its client gets no answer."""
        self.connection.close()


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
        self._takes_inline, self._maintain = app.inline.takes, app.maintain
        self.loop = Loop(self._answer)
        self._unopened: dict[Accepted, None] = {}  # in the order in which they came
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
        self._crowded = connections - connections // SHARE
        self.loop.watch(self.trigger.socket.fileno(), self.trigger.handle_read)
        self._listen()

    # For waitress and for channels

    def handle_accept(self) -> None:
        """Accept the connections that wait, for ACCEPTING seconds at most.

        NOTE: the system gives them in the order in which they came. So that those of one network do
        not hold up another's, each is only opened when it is its network's turn.
        """
        ends = time.monotonic() + ACCEPTING
        while self.readable() and time.monotonic() < ends:
            try:
                accepted = self.accept()
            except OSError:  # no file is left for it
                return
            if accepted is None:
                return
            connection = Accepted(*accepted)
            self._unopened[connection] = None
            self.loop.put(connection.peer_networks, partial(self._open, connection))

    def _open(self, accepted: Accepted) -> None:
        if accepted not in self._unopened:  # it was evicted
            return
        del self._unopened[accepted]
        connection, address = accepted.connection, accepted.address
        try:
            self.set_socket_options(connection)
        except OSError:  # it has ended meanwhile, on macOS
            connection.close()
        else:
            self.loop.begin(Channel(self, connection, address, self.adj, map=self._map))

    @property
    def _taken(self) -> int:
        return len(self._map) + len(self._unopened)

    def readable(self) -> bool:
        """Return whether there is a place for another connection."""
        return self.accepting and self._taken < self.adj.connection_limit

    def maintenance(self, now: float) -> None:
        """Close what is idle or overdue, and have the application look after itself."""
        super().maintenance(now)
        self._maintain()
        for channel in list(self.active_channels.values()):
            channel.expire()
            if channel.is_inline:
                self.loop.enqueue(channel)
            if channel.will_close:
                channel.handle_close()

    def add_task(self, channel: Channel) -> None:
        """Pass on a channel's request: to the loop if it may be answered inline, or to a thread."""
        request = channel.requests[0]
        channel.is_inline = bool(request.error or self._takes_inline(request.command, request.path))
        if not channel.is_inline:
            self.task_dispatcher.add(channel)

    def _answer(self, channel: Channel) -> None:
        channel.is_inline = False
        try:
            channel.service()
        except HandOver as handed_over:
            channel.requests[0].kept_by_loop = handed_over.kept
            self.task_dispatcher.add(channel)
        else:
            if channel.close_when_flushed and not channel.is_closed:
                channel.handle_write()

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
            self.turn(MAINTENANCE_INTERVAL)
        self._maintain()  # before another service can have the port
        self.accepting = False
        if self._listens:
            self._listen()
        wasyncore.dispatcher.close(self)  # the listener alone: threads still pull the trigger
        deadline = time.monotonic() + DRAIN_DEADLINE
        while self._close_idle() and time.monotonic() < deadline:
            self.turn(0.05)
        self.task_dispatcher.shutdown(1)
        for channel in list(self.active_channels.values()):
            channel.handle_close()
        for connection in self._unopened:
            connection.evict()
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

    def turn(self, seconds: float) -> None:
        """Wait for the sockets for so many seconds at most, then work for a while."""
        self.loop.wait(seconds)
        self.loop.work()
        if self._taken >= self._crowded or self.loop.kept > KEPT_LIMIT:
            self._evict()
        if self._listens != self.readable():
            self._listen()
        if time.monotonic() >= self._maintained + MAINTENANCE_INTERVAL:
            self._maintained = time.monotonic()
            self.maintenance(self._maintained)

    def _listen(self) -> None:
        """Wait for connections while there are places for them."""
        self._listens = self.readable()
        if self._listens:
            self.loop.watch(self.socket.fileno(), self.handle_accept)
        else:
            self.loop.unwatch(self.socket.fileno())

    def _evict(self) -> None:
        """Evict connections when few places are left, or when they make us keep too much.

        SECURITY: connections that are not open yet count and are evicted too. Otherwise one network
        could take the last places with them, and everybody else would wait until they are opened.
        """
        chosen: list[Channel | Accepted] = []
        if self._taken >= self._crowded:
            chosen += least_worth([*self.active_channels.values(), *self._unopened])
        excess = self.loop.kept - KEPT_LIMIT
        if excess > 0:
            chosen += heaviest(self.active_channels.values(), excess + KEPT_LIMIT // SHARE)
        for connection in chosen:
            if isinstance(connection, Accepted):
                del self._unopened[connection]
            connection.evict()

    def _close_idle(self) -> bool:
        """Close the connections with nothing to do; tell whether any are left."""
        for channel in list(self.active_channels.values()):
            if not channel.busy:
                channel.handle_close()
        return bool(self.active_channels or self._unopened)
