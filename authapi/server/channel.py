"""A client's connection: answers, deadlines, and its end. `incoming` has its receiving half."""

from __future__ import annotations

import socket
from contextlib import suppress
from typing import Any

from authapi import errors
from authapi.hosts import networks_of
from authapi.server.incoming import Incoming
from authapi.server.loop_answers import LoopTask
from authapi.server.parser import StrictParser
from authapi.server.wsgi import FailureTask, Task

DISCARD_LIMIT = 1_048_576  # bytes that are read and dropped after a failure


class Channel(Incoming):
    """A client's connection, with a deadline for each request and a gentle end for a failed one.

    NOTE: closing a socket with unread bytes resets it, and the client may never see the answer. So
    after a failure our side ends first, and what the client still sends is read and dropped.
    """

    error_task_class = FailureTask
    running: StrictParser | None = None  # the request that a thread is answering
    lingers = False

    @property
    def task_class(self) -> type[Task]:
        """What runs the application, here and now."""
        return LoopTask if self.server.is_loop() else Task

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
    def waits_since(self) -> float | None:
        """When the last request came, or else the client itself; None while a request runs.

        A client that sends the next request meanwhile counts as waiting: it has to expect an end at
        any time (RFC 9112, 9.3.2).
        """
        return self.heard if self.running is None or self.behind else None

    @property
    def busy(self) -> bool:
        """Return whether a request runs, is being answered, or has its body on the way."""
        arriving = self.request is not None and self.request.headers_finished
        return bool(self.requests or self.total_outbufs_len or arriving)

    # Answering, in the loop or in a thread

    def run(self) -> None:
        """Answer the request in a thread, unless the connection was closed while it waited."""
        with self.requests_lock:
            if not self.requests:
                return
            request = self.running = self.requests[0]
        try:
            self.service()
        except BaseException:
            self.will_close = True  # or the client would wait for ever
            raise
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
        self.began = self.server.clock()
        with suppress(OSError):
            self.socket.shutdown(socket.SHUT_WR)

    # Ending, in the loop

    def expire(self) -> None:
        """End a wait that is overdue: answer 408 to a request that has begun, or just close."""
        bounds, now = self.server.bounds, self.server.clock()
        if self.total_outbufs_len >= self.adj.send_bytes:
            # SECURITY: also while the request runs, or a client that reads nothing of a long
            # answer keeps a thread for ever.
            self.will_close |= now - self.last_activity > bounds.idle
        with self.requests_lock:
            if self.began is None or self.requests or now - self.began < bounds.request:
                return
            if self.request is None or self.to_drop:
                self.will_close = True
                return
            self.request.refuse(errors.RequestTimeout())
            self.pass_on(self.request)

    def evict(self) -> bool:
        """Close, unless a request runs and no other waits. A request that waits never runs.

        Return whether the connection was closed.
        """
        with self.requests_lock:
            if self.waits_since is None:
                return False
            self.behind, self.is_inline = b"", False
            if self.running is None:
                self.requests.clear()
            self.handle_close()
        return True

    def del_channel(self, map: Any = None) -> None:  # noqa: A002, ANN401 - waitress's
        """Leave the loop; called as the connection is closed."""
        self.behind = b""
        self.server.loop.forget(self)
        super().del_channel(map)
