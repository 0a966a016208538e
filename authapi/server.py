"""The only module that knows waitress: the strict parser, deadlines, limits, the loop."""

from __future__ import annotations

import re
import socket
import threading
import time
from collections import deque
from contextlib import suppress
from http import HTTPStatus
from typing import Any

from waitress.adjustments import Adjustments
from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser, ParsingError
from waitress.server import TcpWSGIServer
from waitress.task import ErrorTask, ThreadedTaskDispatcher
from waitress.wasyncore import dispatcher, loop

from authapi import errors
from authapi.app import AuthAPI
from authapi.middleware import new_request_id
from authapi.wire import BODY_LIMIT

HEADER_LIMIT = 16_384  # bytes, request line included
URL_LIMIT = 4_096  # bytes
DISCARD_LIMIT = 1_048_576  # bytes that are read and dropped after a failure
CONNECTION_LIMIT = 1_000
IDLE_TIMEOUT = 60  # seconds that a kept-alive connection may be silent
REQUEST_DEADLINE = 10  # seconds from the first byte of a request to its last
DRAIN_DEADLINE = 10  # seconds that a stop waits for running requests

_FAILURES: dict[int, type[errors.Failure]] = {
    400: errors.BadRequest,
    413: errors.PayloadTooLarge,
    431: errors.HeadersTooLarge,
    501: errors.NotImplementedHere,
}
_FRAMING = re.compile(
    rb"\r\n(host|content-length|transfer-encoding):[ \t]*([^\r\n]*?)[ \t]*(?=\r\n|\Z)",
    re.IGNORECASE,
)
_CONTROL_OR_FOLD = re.compile(rb"[\0-\x08\x0b\x0c\x0e-\x1f\x7f]|\r\n[ \t]")
_HOST = re.compile(rb"[A-Za-z0-9._~%!$&'()*+;=:\[\]-]+")


class StrictParser(HTTPRequestParser):
    """Waitress's parser, without what it lets pass.

    SECURITY: whatever two parsers can read differently ends with 400 and a closed connection:
    Content-Length with Transfer-Encoding, `chunked` twice, a doubled or missing Host, folded lines,
    control characters, HTTP/0.9 (RFC 9112, 3.2, 5.2, 6.1).
    """

    error: Any = None  # one of waitress's, or a Failure
    expect_continue = False
    request_uri = ""

    def received(self, data: bytes) -> int:
        """Take bytes; return how many belonged to this request."""
        consumed: int = super().received(data)
        if self.error is None and len(self.request_uri) > URL_LIMIT:
            self.error = errors.URITooLong()
        if self.error is not None:
            self.completed = True
            self.expect_continue = False  # the answer is final
        return consumed

    def parse_header(self, header_plus: bytes) -> None:
        """Parse the request line and headers. Raises ParsingError."""
        if _CONTROL_OR_FOLD.search(header_plus):
            raise ParsingError("control character or folded line")
        fields = [(name.lower(), value) for name, value in _FRAMING.findall(header_plus)]
        hosts = [value for name, value in fields if name == b"host"]
        lengths = [value for name, value in fields if name != b"host"]
        codings = [value for name, value in fields if name == b"transfer-encoding"]
        if len(hosts) > 1 or len(lengths) > 1:
            raise ParsingError("doubled Host or length")
        super().parse_header(header_plus)
        if self.version not in {"1.0", "1.1"} or "\t" in self.request_uri:
            raise ParsingError("not HTTP/1")
        if self.version == "1.1" and not hosts:
            raise ParsingError("no Host")
        if hosts and not _HOST.fullmatch(hosts[0]):
            raise ParsingError("Host is no host")
        if codings and (self.version != "1.1" or codings[0].lower() != b"chunked"):
            raise ParsingError("Transfer-Encoding that is not chunked")


class FailureTask(ErrorTask):
    """Answers what never reached the application, in the envelope and with our headers."""

    def execute(self) -> None:
        """Write the answer, and close when the client has read it."""
        self.channel.lingers = True
        error = self.request.error
        known = isinstance(error, errors.Failure)
        failure = error if known else _FAILURES.get(error.code, errors.InternalError)()
        wire = self.channel.server.wire
        media_type, body = wire.render(failure)
        self.status = f"{failure.status} {HTTPStatus(failure.status).phrase}"
        self.response_headers = [
            ("Content-Type", media_type),
            *wire.headers,
            ("X-Request-ID", new_request_id()),
        ]
        self.set_close_on_finish()
        self.content_length = len(body)
        self.write(body)


class Channel(HTTPChannel):
    """A client's connection, with a deadline for each request and a gentle end for a failed one.

    SECURITY: waitress's own timeout starts again with every byte, so that trickling clients could
    hold every connection.

    NOTE: closing a socket with unread bytes resets it, and the client may never see the answer. So
    after a failure our side ends first, and what the client still sends is read and dropped.
    """

    parser_class = StrictParser
    error_task_class = FailureTask
    request: Any = None  # the one that is arriving
    began = 0.0  # monotonic seconds: when the connection, or else its last request, began
    has_asked = False
    will_close = False
    close_when_flushed = False
    lingers = False
    to_drop = 0  # bytes, once lingering

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - waitress's
        """Note when the connection began."""
        super().__init__(*args, **kwargs)
        self.began = time.monotonic()

    def received(self, data: bytes) -> bool:
        """Take bytes from the client."""
        if self.request is None:
            self.began = time.monotonic()
        self.has_asked = True
        return bool(super().received(data))

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
        if self.lingers and self.close_when_flushed and not self.total_outbufs_len:
            self.lingers = self.close_when_flushed = False
            self.to_drop = DISCARD_LIMIT
            self.began = time.monotonic()
            with suppress(OSError):
                self.socket.shutdown(socket.SHUT_WR)
        else:
            super().handle_write()

    def expire(self) -> None:
        """Answer 408 to an overdue request; close a connection that never asked, or lingers."""
        with self.requests_lock:
            if self.requests or time.monotonic() - self.began < REQUEST_DEADLINE:
                return
            if self.to_drop:
                self.will_close = True
            elif self.request is not None:
                self.request.error = errors.RequestTimeout()
                self.requests.append(self.request)
                self.request = None
                self.server.add_task(self)
            elif not self.has_asked:
                self.will_close = True

    @property
    def busy(self) -> bool:
        """Whether a request is arriving, running, or being answered."""
        return bool(self.requests or self.total_outbufs_len or self.request is not None)


class Server(TcpWSGIServer):
    """Waitress on a socket that is bound already, with a stop that lets requests finish."""

    channel_class = Channel

    def __init__(self, app: AuthAPI, listener: socket.socket, threads: int) -> None:
        """Start the threads and accept connections; `run` answers them."""
        self.wire = app.core.wire
        self.stopping = False
        self._is_quick = app.is_quick
        self._quick: deque[Channel] = deque()
        self._loop_thread = threading.get_ident()
        tasks = ThreadedTaskDispatcher()
        tasks.set_thread_count(threads)
        adjustments = Adjustments(
            sockets=[listener],
            asyncore_use_poll=True,
            channel_request_lookahead=0,
            channel_timeout=IDLE_TIMEOUT,
            cleanup_interval=1,
            connection_limit=CONNECTION_LIMIT,
            ident="",
            log_socket_errors=False,
            max_request_body_size=BODY_LIMIT + 1,
            max_request_header_size=HEADER_LIMIT,
            threads=threads,
        )
        super().__init__(
            app,
            {},
            _sock=listener,
            dispatcher=tasks,
            adj=adjustments,
            sockinfo=(listener.family, listener.type, listener.proto, listener.getsockname()),
            bind_socket=False,
        )

    def maintenance(self, now: float) -> None:
        """Close what is idle or overdue; waitress calls this every second."""
        super().maintenance(now)
        for channel in list(self.active_channels.values()):
            channel.expire()

    def add_task(self, channel: Channel) -> None:
        """Have a channel's next request answered: a quick one here in the loop, others by a thread.

        NOTE: a session check takes less time than handing it to a thread, which then competes with
        all the others for the interpreter lock; and no login can keep one waiting.
        """
        request = channel.requests[0]
        if request.error is None and self._is_quick(request.command, request.path):
            self._quick.append(channel)
        else:
            super().add_task(channel)

    def pull_trigger(self) -> None:
        """Wake the loop, unless this is the loop."""
        if threading.get_ident() != self._loop_thread:
            super().pull_trigger()

    def run(self) -> None:
        """Answer requests until `stop`, then let those that run finish."""
        self._loop_thread = threading.get_ident()
        while not self.stopping:
            self._turn(timeout=1)
        dispatcher.close(self)  # the listener alone: workers still pull the trigger
        deadline = time.monotonic() + DRAIN_DEADLINE
        while self._close_idle() and time.monotonic() < deadline:
            self._turn(timeout=0.05)
        self.task_dispatcher.shutdown()
        for channel in list(self.active_channels.values()):
            channel.handle_close()
        self.trigger.close()

    def stop(self) -> None:
        """Make `run` end; from another thread or a signal handler."""
        self.stopping = True
        self.trigger.pull_trigger()

    def _turn(self, timeout: float) -> None:
        """Wait for the sockets once, then answer what is quick."""
        loop(timeout=timeout, use_poll=True, map=self._map, count=1)
        while self._quick:
            self._quick.popleft().service()

    def _close_idle(self) -> bool:
        """Close the connections with nothing to do; tell whether any are left."""
        for channel in list(self.active_channels.values()):
            if not channel.busy:
                channel.handle_close()
        return bool(self.active_channels)
