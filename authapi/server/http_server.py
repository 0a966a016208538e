"""The server, on waitress: it serves connections within bounds, and ends gently."""

from __future__ import annotations

import math
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

from waitress import wasyncore
from waitress.adjustments import Adjustments
from waitress.server import TcpWSGIServer

from authapi.app import AuthAPI
from authapi.inline import HandOver
from authapi.server.acceptor import Acceptor
from authapi.server.bounds import DEFAULT, Bounds
from authapi.server.channel import Channel
from authapi.server.eviction import Eviction
from authapi.server.forwarded import Forwarding
from authapi.server.look_ups import look_ups_of
from authapi.server.loop import Loop
from authapi.server.observer import evicted_counter
from authapi.server.pool import Pool
from authapi.settings import ServerSettings

OVERFLOW = 262_144  # bytes of an answer that wait in memory for the client; more wait in a file
SEND_BYTES = 16_384  # an answer up to this size leaves in one piece


def _adjustments(listener: socket.socket, threads: int, bounds: Bounds) -> Any:  # noqa: ANN401
    """Return waitress's own settings."""
    adjustments = Adjustments(
        sockets=[listener],
        channel_timeout=bounds.idle,
        clear_untrusted_proxy_headers=False,
        connection_limit=bounds.connections,
        ident="",
        log_socket_errors=False,
        outbuf_overflow=OVERFLOW,
        threads=threads,
    )
    adjustments.send_bytes = SEND_BYTES
    return adjustments


class Server(TcpWSGIServer):
    """Waitress on a socket that is bound already, with a loop and a thread pool of our own.

    It evicts connections when few slots are left, or when they take too much memory or disk.
    """

    channel_class = Channel
    next_channel_cleanup = math.inf  # NOTE: `run` calls `maintenance` itself
    _maintained = _drain_ends = 0.0  # monotonic seconds

    def __init__(
        self,
        app: AuthAPI,
        listener: socket.socket,
        threads: int,
        bounds: Bounds = DEFAULT,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start the threads; `run` answers requests.

        `clock` gives monotonic seconds, by which clients are held to their deadlines.
        """
        self.wire = app.core.wire
        self.bounds, self.clock = bounds, clock
        self.observers: list[Callable[[Any], None]] = []  # of each answer, by its task
        self.stopping = False
        self.forwarding = Forwarding(app.core.settings, app.core.notices)
        self._takes_inline, self._maintain = app.inline.takes, app.maintain
        self.loop = Loop(self._answer)
        self.loop.together = app.core.database.reading
        self._eviction = Eviction(bounds, app.core.notices, evicted_counter(app.core.metrics))
        self._readiness = app.core.readiness
        self._drain_seconds = app.core.settings.of(ServerSettings).drain_seconds
        self._loop_thread = threading.get_ident()
        self._trigger_lock = threading.RLock()  # a signal handler may call `stop` anywhere
        self._ended = False
        super().__init__(
            app,
            {},
            _sock=listener,
            dispatcher=Pool(threads),
            adj=_adjustments(listener, threads, bounds),
            sockinfo=(listener.family, listener.type, listener.proto, listener.getsockname()),
            bind_socket=False,
        )
        self._look_ups = look_ups_of(app, self.loop, self.task_dispatcher.add, self._wake)
        self.loop.watch(self.trigger.socket.fileno(), self.trigger.handle_read)
        self.acceptor = Acceptor(listener, self.loop, self._begin, bounds, self.active_channels)
        self.acceptor.listen()

    def _begin(self, connection: socket.socket, address: Any) -> None:  # noqa: ANN401 - socket's
        """Serve a connection that was accepted."""
        try:
            self.set_socket_options(connection)
        except OSError:  # it has ended meanwhile, on macOS
            connection.close()
        else:
            self.loop.begin(Channel(self, connection, address, self.adj, map=self._map))

    # For waitress and for channels

    def maintenance(self, now: float) -> None:
        """Close what is idle or overdue, and let the application do its own maintenance."""
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
        elif self._look_ups:
            self._look_ups.foresee(channel)

    def _answer(self, channel: Channel) -> None:
        channel.is_inline = False
        try:
            channel.service()
        except HandOver as handed_over:
            channel.requests[0].kept_by_loop = handed_over.kept
            if self._look_ups and handed_over.key:
                self._look_ups.ask(channel, handed_over.key)
            else:
                self.task_dispatcher.add(channel)
        else:
            if channel.close_when_flushed and not channel.is_closed:
                channel.handle_write()

    def touch(self, channel: Channel) -> None:
        """Let the loop look at a connection that a thread has changed."""
        self.loop.touch(channel)
        self._wake()

    def pull_trigger(self) -> None:
        """Do nothing: waitress does not say which channel a thread has changed, `touch` does."""

    def is_loop(self) -> bool:
        """Return whether the caller is the thread that runs the loop."""
        return threading.get_ident() == self._loop_thread

    # From the start to the end

    def run(self) -> None:
        """Answer requests until `stop` and the drain, then let those that run finish."""
        self._loop_thread = threading.get_ident()
        while not self.stopping:
            self.turn(self.bounds.maintenance)
        self._readiness.drains = True
        self._drain_ends = time.monotonic() + self._drain_seconds
        while (rest := self._drain_ends - time.monotonic()) > 0:
            self.turn(min(rest, self.bounds.maintenance))
        self._maintain()  # before another service can have the port
        _end_connections(self)
        if self._look_ups:
            self._look_ups.close()
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
        """Wait for the sockets, at most so long, then work for a while."""
        self.loop.wait(self._look_ups.patience(seconds) if self._look_ups else seconds)
        self.loop.work()
        if self._eviction.is_due(self.acceptor.taken, self.loop.kept, self.loop.unsent):
            everyone = [*self.active_channels.values(), *self.acceptor.unopened]
            self._eviction.run(everyone, self.loop.kept, self.loop.unsent)
        self.acceptor.listen()
        if time.monotonic() >= self._maintained + self.bounds.maintenance:
            self._maintained = time.monotonic()
            self.maintenance(self.clock())


def _end_connections(server: Server) -> None:
    """Accept nothing more, let the requests that run finish, and close every connection."""
    server.acceptor.stop()
    wasyncore.dispatcher.close(server)  # the listener alone: threads still pull the trigger
    deadline = time.monotonic() + server.bounds.drain
    while _close_idle(server) and time.monotonic() < deadline:
        server.turn(0.05)
    server.task_dispatcher.shutdown(1)
    for channel in list(server.active_channels.values()):
        channel.handle_close()
    server.acceptor.close()


def _close_idle(server: Server) -> bool:
    """Close the connections with nothing to do; return whether any are left."""
    for channel in list(server.active_channels.values()):
        if not channel.busy:
            channel.handle_close()
    return bool(server.active_channels or server.acceptor.unopened)
