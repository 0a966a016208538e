"""The strict parser of HTTP/1: waitress's own, without what it lets pass."""

from __future__ import annotations

import re
from contextlib import suppress
from functools import lru_cache
from typing import Any

from waitress.parser import HTTPRequestParser, ParsingError, TransferEncodingNotImplemented

from authapi import errors
from authapi.bodies import BODY_LIMIT

URL_LIMIT = 4_096  # bytes
FRAMED_LIMIT = 8 * BODY_LIMIT  # bytes of a body in chunks; chunks of one byte take six for each
REMEMBERED = 512  # headers of requests, 5 KiB each at most
LONGEST_REMEMBERED = 1_024  # bytes of one
MOST_LINES_REMEMBERED = 32

_KNOWN_FIELDS = (b"host", b"content-length", b"transfer-encoding", b"cookie")
_KNOWN = re.compile(rb"\r\n(" + b"|".join(_KNOWN_FIELDS) + rb"):([^\r\n]*)", re.IGNORECASE)
_CONTROL_OR_FOLD = re.compile(rb"[\0-\x08\x0b\x0c\x0e-\x1f\x7f]|\r\n[ \t]")
_REQUEST_LINE = re.compile(rb"[^ \r]+ [^ \r]+ HTTP/1\.[01]\r\n")
_LEADING_SPACE = re.compile(rb"(\r\n[^\r\n:]*:)[ \t]+")
_TARGET = re.compile(r"(/|https?://)[^\t#]*|\*", re.IGNORECASE)
_HOST = re.compile(rb"[A-Za-z0-9._~%!$&'()*+;=:\[\]-]+")


def is_host_header(value: str) -> bool:
    """Whether a `Host` is one: none at all is, in HTTP/1.0 (RFC 9112, 3.2)."""
    return not value or bool(_HOST.fullmatch(value.encode("latin-1", "replace")))


def _is_worth_it(header_plus: bytes) -> bool:
    return (
        len(header_plus) <= LONGEST_REMEMBERED
        and header_plus.startswith(b"GET ")
        and header_plus.count(b"\n") <= MOST_LINES_REMEMBERED
    )


@lru_cache(maxsize=REMEMBERED)
def _parsed(header_plus: bytes, adjustments: Any) -> StrictParser:  # noqa: ANN401 - waitress's
    """A parser that has parsed a header. Raises ParsingError."""
    parser = StrictParser(adjustments)
    parser.parse(header_plus)
    return parser


class StrictParser(HTTPRequestParser):
    """Waitress's parser, without what it lets pass.

    SECURITY: whatever two parsers can read differently ends with 400 and a closed connection:
    Content-Length with Transfer-Encoding, `chunked` twice, a doubled or missing Host, folded lines,
    control characters, HTTP/0.9 (RFC 9112, 3.2, 5.2, 6.1).
    """

    error: Any = None  # one of waitress's, or a Failure
    completed = False
    expect_continue = False
    path = request_uri = ""
    carried: dict[str, Any] | None = None  # from the loop to the thread that answers the request

    def received(self, data: bytes) -> int:
        """Take bytes; return how many belonged to this request."""
        consumed: int = super().received(data)
        if self.error is None and len(self.request_uri) > URL_LIMIT:
            self.error = errors.URITooLong()
        if self.error is None and self.body_rcv is not None:
            # what chunks are framed by is no part of the body
            length = len(self.body_rcv) if self.chunked else self.content_length
            if length > BODY_LIMIT:
                self.error = errors.PayloadTooLarge()
        self.completed = self.completed or self.error is not None
        if self.completed:
            # SECURITY: else waitress sends 100 and reads the next request's headers into this one.
            self.expect_continue = False
        return consumed

    def parse_header(self, header_plus: bytes) -> None:
        """Parse the request line and headers. Raises ParsingError.

        NOTE: a client on a kept-alive connection sends the same bytes with each session check, and
        parsing them takes longer than answering.
        """
        if _is_worth_it(header_plus):
            with suppress(ParsingError, TransferEncodingNotImplemented):
                known = _parsed(header_plus, self.adj)
                if known.body_rcv is None:  # SECURITY: a body is of one request
                    self.__dict__.update(vars(known), headers=known.headers.copy())
                    return
        self.parse(header_plus)

    def parse(self, header_plus: bytes) -> None:
        """Parse, whatever was parsed before. Raises ParsingError."""
        if _CONTROL_OR_FOLD.search(header_plus):
            raise ParsingError("control character or folded line")
        if not _REQUEST_LINE.match(header_plus):  # waitress's own takes quadratic time to fail
            raise ParsingError("no request line of HTTP/1")
        found: dict[bytes, list[bytes]] = {name: [] for name in _KNOWN_FIELDS}
        for name, value in _KNOWN.findall(header_plus):
            found[name.lower()].append(value.strip(b" \t"))
        hosts, lengths, codings, cookies = found.values()
        if len(hosts) > 1 or len(lengths) + len(codings) > 1:
            raise ParsingError("doubled Host or length")
        try:
            # SECURITY: waitress takes quadratic time over white space that leads a value.
            super().parse_header(_LEADING_SPACE.sub(rb"\1", header_plus))
        except ValueError as error:  # a length of thousands of digits, a URL with half a bracket
            raise ParsingError("no number, or no URL") from error
        self._join_cookies(cookies)
        if not _TARGET.fullmatch(self.request_uri):
            raise ParsingError("no request target")
        if self.version == "1.1" and not hosts:
            raise ParsingError("no Host")
        if hosts and not _HOST.fullmatch(hosts[0]):
            raise ParsingError("Host is no host")
        if codings and (self.version != "1.1" or codings[0].lower() != b"chunked"):
            raise ParsingError("Transfer-Encoding that is not chunked")

    def _join_cookies(self, lines: list[bytes]) -> None:
        """Join several Cookie lines by a semicolon (RFC 9113, 8.2.3); waitress takes a comma."""
        if len(lines) > 1:
            self.headers["COOKIE"] = b"; ".join(lines).decode("latin-1")
