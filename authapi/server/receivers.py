"""Receive a request's body: of a known length, or in chunks (RFC 9112, 6 and 7.1).

waitress's own receivers copy the rest of a packet for each chunk in it, and do not bound chunk
extensions and trailers.
"""

from __future__ import annotations

import re
from io import BytesIO

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_QUOTED = rb'"(?:[^"\\\x00-\x08\x0a-\x1f\x7f]|\\[\t -~\x80-\xff])*"'
_SIZE = re.compile(
    rb"([0-9A-Fa-f]{1,16})(?:;" + _TOKEN + rb"(?:=(?:" + _TOKEN + rb"|" + _QUOTED + rb"))?)*"
)
_TRAILER = re.compile(_TOKEN + rb":[^\x00-\x08\x0a-\x1f\x7f]*")


class _Received:
    """The bytes of a body."""

    completed = failed = False

    def __init__(self) -> None:
        self._file = BytesIO()
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def getfile(self) -> BytesIO:
        """Return the body as a file, at its beginning."""
        self._file.seek(0)
        return self._file

    def getbuf(self) -> BytesIO:
        """Return what to close when the request has been answered."""
        return self._file

    def _take(self, data: bytes) -> int:
        self._length += len(data)
        return self._file.write(data)


class SizedReceiver(_Received):
    """Receives a body of as many bytes as `Content-Length` says."""

    framing = 0

    def __init__(self, length: int) -> None:
        """Take the length in bytes, above 0."""
        super().__init__()
        self.missing = length

    def received(self, data: bytes) -> int:
        """Take bytes; return how many of them belong to the body."""
        taken = self._take(data[: self.missing])
        self.missing -= taken
        self.completed = not self.missing
        return taken


class ChunkedReceiver(_Received):
    """Receives a body in chunks. Extensions and trailers are checked and left out.

    SECURITY: it fails at a line that is neither a chunk's size, nor its end, nor a trailer, because
    two servers could read that differently.
    """

    def __init__(self) -> None:
        """Expect the size of the first chunk."""
        super().__init__()
        self._line = b""  # the part of a line that has arrived
        self.missing = 0  # bytes of the chunk that is arriving
        self._ends_chunk = False  # whether the next line is the empty one after a chunk
        self._is_trailer = False  # whether the last chunk has come
        self.framing = 0

    def received(self, data: bytes) -> int:
        """Take bytes; return how many of them belong to the body."""
        at = 0
        while at < len(data) and not self.completed and not self.failed:
            if self.missing:
                taken = self._take(data[at : at + self.missing])
                self.missing -= taken
                at += taken
            else:
                at = self._receive_line(data, at)
        return at

    def _receive_line(self, data: bytes, at: int) -> int:
        """Take a line, or the part of it that has arrived; return where that ends in the data."""
        split = self._line.endswith(b"\r") and data.startswith(b"\n", at)
        end = at - 1 if split else data.find(b"\r\n", at)
        is_whole = split or end >= 0
        stop = end + 2 if is_whole else len(data)
        self._line += data[at:stop]
        self.framing += stop - at
        if is_whole:
            line, self._line = self._line[:-2], b""
            self._read(line)
        return stop

    def _read(self, line: bytes) -> None:
        if self._ends_chunk:
            self._ends_chunk, self.failed = False, line != b""
        elif self._is_trailer:
            self.completed = not line
            self.failed = bool(line) and not _TRAILER.fullmatch(line)
        elif match := _SIZE.fullmatch(line):
            self.missing = int(match[1], 16)
            self._ends_chunk, self._is_trailer = self.missing > 0, self.missing == 0
        else:
            self.failed = True
