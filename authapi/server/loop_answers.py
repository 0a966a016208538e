"""Answers that the server's loop gives itself: their headers, and how they are sent.

A session check is answered so. waitress takes as long for the headers of an answer and for its
buffers as the application takes for the check.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from authapi.server.wsgi import FORBIDDEN, Headers, Task, capitalized, http_date


class LoopTask(Task):
    """Runs the application for a request in the loop."""

    in_loop = True
    content_length: int | None
    _fields = ""  # the lines of the application's headers
    _has_others = False  # whether one of them is said by the server too

    def run(self) -> None:
        """Run the application. An answer of one piece is sent at once."""
        pieces = self.channel.server.application(self.environ, self._begin)
        is_one = type(pieces) is list and len(pieces) == 1
        if is_one and self._is_plain(len(pieces[0])):
            self._send(pieces[0])
            return
        if is_one and self.content_length is None:
            self.content_length = len(pieces[0])
        try:
            for piece in filter(None, pieces):
                self.write(piece)
        finally:
            if hasattr(pieces, "close"):
                pieces.close()
        written = {None, self.content_bytes_written}
        if self.content_length not in written and self.request.command != "HEAD":
            self.set_close_on_finish()

    def _begin(self, status: str, headers: Headers, exc_info: Any = None) -> Any:  # noqa: ANN401
        """Take status and headers, as WSGI's `start_response`.

        SECURITY: a line break in one of them would forge a header.
        """
        if self.complete and not exc_info:
            raise AssertionError("start_response was called twice")
        if self.wrote_header:
            raise exc_info[1]
        fields = "".join([f"{_allowed(name)}: {value}\r\n" for name, value in headers])
        if not fields.count("\n") == fields.count("\r") == len(headers):
            raise ValueError("a line break in a header")
        if "\n" in status or "\r" in status:
            raise ValueError("a line break in the status")
        self.status, self.response_headers, self.complete = status, headers, True
        self._fields = fields
        values = dict(headers)  # with names as Falcon writes them
        length = values.get("content-length")
        self.content_length = None if length is None else int(length)
        self._has_others = "date" in values or "server" in values
        return self.write

    def _is_plain(self, size: int) -> bool:
        """Return whether an answer of one piece needs nothing of waitress's."""
        return size == self.content_length and self.has_body and not self._has_others

    def _send(self, body: bytes) -> None:
        """Send a whole answer, and keep what the socket does not take."""
        channel, version, sent = self.channel, self.version, 0
        connection = self.request.headers.get("CONNECTION", "").lower()
        is_old = version == "1.0"
        ends = connection != "keep-alive" if is_old else connection == "close"
        line = ""
        if ends or channel.server.stopping:
            line, self.close_on_finish = "Connection: close\r\n", True
        elif is_old:
            line = "Connection: Keep-Alive\r\n"
        date = http_date(int(self.start_time))
        head = f"HTTP/{version} {self.status}\r\n{line}Date: {date}\r\n{self._fields}\r\n"
        data = head.encode("latin-1") + body
        self.wrote_header, self.content_bytes_written = True, len(body)
        if channel.connected and not channel.total_outbufs_len:
            try:
                sent = channel.socket.send(data)
            except OSError:  # which is met again as the rest is sent
                sent = 0
        if sent < len(data):
            channel.write_soon(data[sent:])


@lru_cache(maxsize=256)
def _allowed(name: str) -> str:
    """Return a header's name, capitalized. Raises ValueError for one that is the server's own."""
    if name.lower() in FORBIDDEN:
        raise ValueError(f"{name} is for the server to say (PEP 3333)")
    return capitalized(name)
