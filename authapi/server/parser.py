"""The strict parser of HTTP/1: waitress's own, without what it lets pass."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any

from waitress.parser import HTTPRequestParser, ParsingError, TransferEncodingNotImplemented

from authapi import errors
from authapi.bodies import BODY_LIMIT
from authapi.fields import WHITE_SPACE, elements
from authapi.server.receivers import ChunkedReceiver, SizedReceiver

HEADER_LIMIT = 16_384  # bytes, request line included
MOST_FIELDS = 100  # header fields
URL_LIMIT = 4_096  # bytes
FRAMING_LIMIT = 8_192  # bytes that a chunked body has beside its content
REMEMBERED = 512  # requests without a body, 10 KiB each at most
LONGEST_REMEMBERED = 1_024  # bytes of one
MOST_LINES_REMEMBERED = 32

_KNOWN_FIELDS = (b"host", b"content-length", b"transfer-encoding", b"cookie")
_KNOWN = re.compile(rb"\r\n(" + b"|".join(_KNOWN_FIELDS) + rb"):([^\r\n]*)", re.IGNORECASE)
_CONTROL_OR_FOLD = re.compile(rb"[\0-\x08\x0b\x0c\x0e-\x1f\x7f]|\r\n[ \t]")
_BLANK_LINES = re.compile(rb"(?:\r\n)*")
_REQUEST_LINE = re.compile(rb"([^ \r\n]+) ([^ \r\n]+) HTTP/(1\.[01])\r\n")
_SHAPES_A_REFUSAL = re.compile(rb"\r\n(accept|origin):([^\r\n]*)(?=\r)", re.IGNORECASE)
_LEADING_SPACE = re.compile(rb"(\r\n[^\r\n:]*:)[ \t]+")
_TARGET = re.compile(r"(/|https?://)[^\t#]*|\*", re.IGNORECASE)
_HOST = re.compile(rb"[A-Za-z0-9._~%!$&'()*+;=:\[\]-]+")


def is_host_header(value: str) -> bool:
    """Return whether a `Host` is well formed; HTTP/1.0 may have none (RFC 9112, 3.2)."""
    return not value or bool(_HOST.fullmatch(value.encode("latin-1", "replace")))


def _is_worth_it(data: bytes) -> bool:
    """Return whether bytes may be a whole request that a client sends again and again."""
    return (
        len(data) <= LONGEST_REMEMBERED
        and data.startswith(b"GET ")
        and data.find(b"\r\n\r\n") == len(data) - 4
        and data.count(b"\n") <= MOST_LINES_REMEMBERED
    )


@lru_cache(maxsize=REMEMBERED)
def _known(data: bytes, adjustments: Any) -> dict[str, Any] | None:  # noqa: ANN401 - waitress's
    """Return the attributes of a parser that has received a request; None if it is not whole."""
    parser = StrictParser(adjustments)
    parser.received(data)
    if parser.error or not parser.completed:  # SECURITY: a body is of one request
        return None
    return {**vars(parser), "remembered": {}}


def known_request(data: bytes, adjustments: Any) -> StrictParser | None:  # noqa: ANN401
    """Return the request without a body that bytes are; None if they are to be parsed.

    NOTE: a client on a kept-alive connection sends the same bytes with each session check, and
    parsing them takes longer than answering.
    """
    known = _known(data, adjustments) if _is_worth_it(data) else None
    if known is None:
        return None
    request = StrictParser.__new__(StrictParser)
    request.__dict__ = known.copy()
    request.headers = request.headers.copy()
    return request


class StrictParser(HTTPRequestParser):
    """Waitress's parser, with stricter rules, and with bounds on what a request costs.

    SECURITY: a message that two parsers could read differently gets 400 and a closed connection:
    Content-Length with Transfer-Encoding, `chunked` twice, a doubled or missing Host, folded lines,
    control characters, HTTP/0.9 (RFC 9112, 3.2, 5.2, 6.1).
    """

    error: errors.Failure | None = None
    completed = expect_continue = headers_finished = False
    command = path = request_uri = ""
    headers: dict[str, str]
    body_rcv: SizedReceiver | ChunkedReceiver | None = None
    header = b""  # what has arrived of it, until it is whole
    header_size = lines = 0
    remembered: dict[str, Any] | None = None  # what requests of the same bytes share
    kept_by_loop: Mapping[str, object] = MappingProxyType({})  # for the thread that answers it

    @property
    def kept(self) -> int:
        """The memory that the request takes, about, in bytes. Parsed fields take it twice."""
        body = 0 if self.body_rcv is None else len(self.body_rcv)
        return body + self.header_size * (1 + self.headers_finished)

    def received(self, data: bytes) -> int:
        """Take bytes; return how many of them belong to this request."""
        if self.completed:
            return 0
        if self.body_rcv is not None:
            return self._receive_body(self.body_rcv, data)
        return self._receive_header(data)

    def refuse(self, failure: errors.Failure) -> None:
        """End the request with a failure, without waiting for the rest of it."""
        self.error, self.completed, self.expect_continue = failure, True, False
        if not self.headers_finished:
            _shape_refusal(self, self.header)

    def _receive_header(self, data: bytes) -> int:
        """Take bytes of the header, or more; return how many of them belong to it.

        SECURITY: no byte is searched twice, however many packets the header comes in, and a header
        over a limit is refused before it is parsed.
        """
        seen = len(self.header)
        header = self.header + data if seen else data
        if header.startswith(b"\r"):  # blank lines come before it: RFC 9112, 2.2
            header, seen, self.lines = _BLANK_LINES.sub(b"", header, 1), 0, 0
        end = header.find(b"\r\n\r\n", max(0, seen - 3))
        is_whole = end >= 0
        self.header_size = end + 4 if is_whole else len(header)
        self.lines += header.count(b"\n", seen, self.header_size)
        self.header = header[: self.header_size]
        # The first line is no field, and neither is the empty one at the end.
        if self.header_size > HEADER_LIMIT or self.lines - 1 - is_whole > MOST_FIELDS:
            self.refuse(errors.HeadersTooLarge())
        elif is_whole:
            self._finish_header()
        return len(data) - len(header) + self.header_size

    def _finish_header(self) -> None:
        try:
            self.parse_header(self.header)
        except errors.Failure as failure:
            self.refuse(failure)
            return
        self.header, self.headers_finished = b"", True
        if self.content_length > BODY_LIMIT:
            self.refuse(errors.PayloadTooLarge())
        elif self.body_rcv is None:
            # SECURITY: or waitress sends 100 and reads the next request's headers into this one.
            self.completed, self.expect_continue = True, False

    def _receive_body(self, body: SizedReceiver | ChunkedReceiver, data: bytes) -> int:
        """Take bytes of the body, or more; return how many of them belong to it."""
        consumed = body.received(data)
        if body.failed:
            self.refuse(errors.BadRequest())
        elif len(body) + body.missing > BODY_LIMIT or body.framing > FRAMING_LIMIT:
            self.refuse(errors.PayloadTooLarge())
        elif body.completed:
            self.completed, self.expect_continue = True, False
            self.headers["CONTENT_LENGTH"] = str(len(body))
        return consumed

    def parse_header(self, header_plus: bytes) -> None:
        """Parse the request line and headers.

        Raises BadRequest, NotImplementedHere or URITooLong.
        """
        line = _REQUEST_LINE.match(header_plus)  # waitress's own takes quadratic time to fail
        if line is None or _CONTROL_OR_FOLD.search(header_plus):
            raise errors.BadRequest("no request line of HTTP/1, a control character, a folded line")
        if len(line[2]) > URL_LIMIT:
            raise errors.URITooLong
        found: dict[bytes, list[bytes]] = {name: [] for name in _KNOWN_FIELDS}
        for name, value in _KNOWN.findall(header_plus):
            found[name.lower()].append(value.strip(b" \t"))
        hosts, lengths, codings, cookies = found.values()
        if len(hosts) > 1 or len(lengths) + len(codings) > 1:
            raise errors.BadRequest("doubled Host or length")
        self._parse_as_waitress(header_plus)
        self._join_cookies(cookies)
        if not _TARGET.fullmatch(self.request_uri):
            raise errors.BadRequest("no request target")
        if self.version == "1.1" and not hosts:
            raise errors.BadRequest("no Host")
        if hosts and not _HOST.fullmatch(hosts[0]):
            raise errors.BadRequest("Host is no host")
        if codings and (self.version != "1.1" or codings[0].lower() != b"chunked"):
            raise errors.BadRequest("Transfer-Encoding that is not chunked")

    def _parse_as_waitress(self, header: bytes) -> None:
        """Fill in what waitress parses. Raises BadRequest or NotImplementedHere."""
        try:
            # SECURITY: waitress takes quadratic time over white space that leads a value.
            super().parse_header(_LEADING_SPACE.sub(rb"\1", header))
        except TransferEncodingNotImplemented as error:
            raise errors.NotImplementedHere from error
        except (ParsingError, ValueError) as error:  # a length of thousands of digits, half a `[`
            raise errors.BadRequest("no HTTP/1") from error
        options = elements(self.headers.get("CONNECTION", "").lower())
        for option in ("keep-alive", "close"):  # waitress knows them alone, and not in a list
            if option in options:
                self.headers["CONNECTION"] = option
        if self.body_rcv is not None:
            self.body_rcv = (
                ChunkedReceiver() if self.chunked else SizedReceiver(self.content_length)
            )

    def _join_cookies(self, lines: list[bytes]) -> None:
        """Join several Cookie lines by a semicolon (RFC 9113, 8.2.3); waitress takes a comma."""
        if len(lines) > 1:
            self.headers["COOKIE"] = b"; ".join(lines).decode("latin-1")


def _shape_refusal(parser: StrictParser, header: bytes) -> None:
    """Take from a header that is not parsed the fields on which the answer depends."""
    line = _REQUEST_LINE.match(header)
    if line:
        parser.command, parser.version = line[1].decode("latin-1"), line[3].decode()
    found: dict[str, list[str]] = {}
    for name, value in _SHAPES_A_REFUSAL.findall(header):
        found.setdefault(name.upper().decode(), []).append(value.decode("latin-1"))
    for name, values in found.items():  # several lines are one list, as in a whole header
        parser.headers[name] = ", ".join(value.strip(WHITE_SPACE) for value in values)
