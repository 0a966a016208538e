"""Running the application for a request: its environ, its headers, and failures without it."""

from __future__ import annotations

import logging
from functools import lru_cache
from typing import Any

from waitress.task import ErrorTask, WSGITask, hop_by_hop
from waitress.utilities import build_http_date

from authapi import errors
from authapi.inline import IN_LOOP, KEPT
from authapi.middleware import REQUEST_ID, new_request_id

logger = logging.getLogger("authapi.server")

_FAILURES: dict[int, type[errors.Failure]] = {
    400: errors.BadRequest,
    413: errors.PayloadTooLarge,
    431: errors.HeadersTooLarge,
    501: errors.NotImplementedHere,
}


_OF_CONNECTION = (
    *("REMOTE_ADDR", "REMOTE_HOST", "REMOTE_PORT"),
    *("wsgi.input", "waitress.client_disconnected"),
)
Headers = list[tuple[str, str]]

FORBIDDEN = hop_by_hop  # headers that are the server's own (PEP 3333)
_WAITRESS_READS = frozenset({"connection", "content-length", "server"})

http_date = lru_cache(maxsize=2)(build_http_date)


@lru_cache(maxsize=256)  # names of an application's headers
def capitalized(name: str) -> str:
    """Return the name of a header as it is sent."""
    return "-".join(part.capitalize() for part in name.split("-"))


class Task(WSGITask):
    """Runs the application for a request, in a thread."""

    in_loop = False
    environ: dict[str, Any] | None
    complete: bool
    response_headers: Headers
    start_time: float
    wrote_header: bool

    def get_environment(self) -> dict[str, Any]:
        """Return the environ, with the path as received; waitress folds slashes at its beginning.

        Raises BadRequest or HTTPSRequired, for what a trusted proxy says about the request.
        """
        if self.environ is not None:
            return self.environ
        environ = self._own_environ()
        environ["PATH_INFO"] = self.request.path
        environ[IN_LOOP] = self.in_loop
        environ[KEPT] = self.request.kept_by_loop
        self.channel.server.forwarding.apply(environ)
        return environ

    def _own_environ(self) -> dict[str, Any]:
        """Return waitress's environ, most of which is the same for requests of the same bytes.

        SECURITY: what is remembered holds nothing of a connection, and the rest is in the bytes.
        """
        request, channel = self.request, self.channel
        remembered: dict[str, Any] | None = request.remembered
        if not remembered:
            environ: dict[str, Any] = super().get_environment()
            if remembered is not None:
                remembered.update(environ | dict.fromkeys(_OF_CONNECTION))
            return environ
        self.environ = environ = remembered.copy()
        environ["REMOTE_ADDR"] = environ["REMOTE_HOST"] = channel.addr[0]
        environ["REMOTE_PORT"] = str(channel.addr[1])
        environ["wsgi.input"] = request.get_body_stream()
        environ["waitress.client_disconnected"] = channel.check_client_disconnected
        return environ

    def execute(self) -> None:
        """Run the application, unless the request is refused."""
        try:
            self.get_environment()
        except errors.Failure as failure:
            _fail(self, failure)
        else:
            self.run()

    def run(self) -> None:
        """Run the application."""
        super().execute()

    def build_response_header(self) -> bytes:
        """Return the status line and headers, as waitress does.

        While the server stops, each answer is the last of its connection, so that the client sends
        its next request elsewhere.

        NOTE: waitress capitalizes each name and formats the date each time, which takes a tenth of
        a session check. So it gets a date, and only the headers that it reads.
        """
        read = [("Date", http_date(int(self.start_time)))]
        others: list[str] = []
        for name, value in self.response_headers:
            kind = name.lower()
            if kind in _WAITRESS_READS:
                read.append((name, value))
            elif kind == "date":
                read[0] = (name, value)
            else:
                others.append(f"{capitalized(name)}: {value}\r\n")
        self.response_headers = read
        if self.channel.server.stopping:
            self.request.headers["CONNECTION"] = "close"
        head: bytes = super().build_response_header()
        return head[:-2] + "".join(others).encode("latin-1") + b"\r\n"

    def write(self, data: bytes) -> None:
        """Write a piece of the body, after the header if it is the first piece.

        An answer in one piece is written to the channel in one piece, with its header.
        """
        if self.wrote_header or len(data) != self.content_length or not self.has_body:
            super().write(data)
            return
        header = self.build_response_header()
        self.wrote_header, self.content_bytes_written = True, len(data)
        self.channel.write_soon(header + data)

    def finish(self) -> None:
        """Send headers and body in one piece, where they were small enough to be kept back."""
        if not self.wrote_header or self.chunked_response:
            super().finish()
        if self.channel.total_outbufs_len:
            self.channel.flush(do_close=False)
        for observe in self.channel.server.observers:
            observe(self)


class FailureTask(ErrorTask):
    """Answers a request that never reached the application."""

    environ: dict[str, Any] | None = None

    def execute(self) -> None:
        """Write the answer, and close when the client has read it."""
        error = self.request.error
        known = isinstance(error, errors.Failure)
        _fail(self, error if known else _FAILURES.get(error.code, errors.InternalError)())

    def finish(self) -> None:
        """End the answer."""
        super().finish()
        for observe in self.channel.server.observers:
            observe(self)


def _fail(task: Any, failure: errors.Failure) -> None:  # noqa: ANN401 - one of waitress's
    """Answer in the envelope and with our headers, and close when the client has read it.

    NOTE: the request that is answered is the channel's. For its own failures, waitress gives a task
    another one, without the headers.
    """
    task.channel.lingers = True
    request, environ = task.channel.requests[0], task.environ or {}
    task.request_id = request_id = environ.get(REQUEST_ID) or new_request_id()
    logger.debug("request %s: %s %s", request_id, failure.status, failure.error)
    task.status, task.response_headers, body = task.channel.server.wire.whole(
        failure,
        accept=request.headers.get("ACCEPT", ""),
        origin=request.headers.get("ORIGIN"),
        request_id=request_id,
    )
    task.complete = True  # as if start_response had been called
    task.set_close_on_finish()
    task.content_length = len(body)
    task.write(b"" if getattr(request, "command", "") == "HEAD" else body)
