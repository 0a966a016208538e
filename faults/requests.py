"""The places of a request that a client can put text into.

A place builds a request around a text. Each request also carries a serial number, so that no cache
of the service answers the next one.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

PACKET = 78  # bytes that TCP, IPv4 and Ethernet add to each segment on the wire
LEAST = 84  # bytes that the shortest frame takes on the wire (IEEE 802.3)
HEADER = 15_800  # bytes of text that still fit into the header
TARGET = 4_000  # bytes of text that still fit into the request target
TOKEN = 4_000  # bytes of text that still fit into a token
BODY = 65_000  # bytes of text that still fit into the body
FRAMED = 500_000  # bytes of text that still fit into a chunked body
SINGLE = 1_000  # bytes that are sent one at a time: each costs as much as the next

HTTPS = "https://auth.example.com"
ALLOWED = "https://app.example.com"

Around = tuple[tuple[bytes, bytes], ...]  # what may stand before and after a text
BARE: Around = ((b"", b""),)
QUOTED: Around = ((b"", b""), (b'"', b'"'), (b'a="', b'"'), (b"Bearer ", b""), (b"a", b"!"))
IN_JSON: Around = ((b"", b""), (b'"', b'"'))


@dataclass(frozen=True)
class Request:
    """The bytes of a request, each piece a segment, and the number of expected answers."""

    pieces: tuple[bytes, ...]
    answers: int = 1

    @property
    def size(self) -> int:
        """Return the bytes that the client sends, as on the wire."""
        return sum(max(LEAST, len(piece) + PACKET) for piece in self.pieces)


@dataclass(frozen=True)
class Visitor:
    """The contents of a request: a serial number, and a user's session and device tokens."""

    serial: bytes
    token: bytes
    device: bytes


Build = Callable[[bytes, Visitor], Request]


@dataclass(frozen=True)
class Place:
    """A place of a request, and the function that builds the request around a text.

    `sizes` are the bytes of text to try, each the most that some rule allows. `base` is a short
    text whose cost is no fault. `one_line` leaves out texts that would end the line.
    """

    name: str
    sizes: tuple[int, ...]
    build: Build
    around: Around = BARE
    base: bytes = b"a"
    one_line: bool = False


def message(
    method: bytes, target: bytes, visitor: Visitor, *fields: bytes, body: bytes | None = None
) -> bytes:
    """Return a request as bytes; each field is a line, and a body is declared as JSON."""
    lines = [b"%s %s HTTP/1.1" % (method, target), b"X-Serial: " + visitor.serial, *fields]
    if not any(line.startswith(b"Host:") for line in fields):
        lines.append(b"Host: x")
    if body is not None:
        lines += [b"Content-Type: application/json", b"Content-Length: %d" % len(body)]
    return b"\r\n".join(lines) + b"\r\n\r\n" + (body or b"")


def _session(visitor: Visitor) -> bytes:
    return b"Cookie: __Host-jwt=" + visitor.token


def _encoded(text: bytes) -> bytes:
    return base64.urlsafe_b64encode(text).rstrip(b"=")


# The header

PLAIN = b"%.0s%s"  # the text alone
GET, POST, OPTIONS = (b"GET", b"/verify"), (b"POST", b"/logout"), (b"OPTIONS", b"/login")
FIELDS = (
    (b"Accept", b"x/%s, %s", GET),
    (b"Access-Control-Request-Headers", PLAIN, OPTIONS),
    (b"Authorization", PLAIN, GET),
    (b"Authorization", PLAIN, POST),
    (b"Connection", PLAIN, GET),
    (b"Content-Length", PLAIN, POST),
    (b"Content-Type", PLAIN, POST),
    (b"Cookie", b"a=%s; %s", GET),
    (b"Cookie", b"a=%s; %s", POST),
    (b"Expect", PLAIN, POST),
    (b"Forwarded", PLAIN, GET),
    (b"Host", PLAIN, POST),
    (b"If-Modified-Since", PLAIN, GET),
    (b"If-None-Match", PLAIN, GET),
    (b"Origin", PLAIN, POST),
    (b"Range", PLAIN, GET),
    (b"Sec-Fetch-Site", PLAIN, POST),
    (b"Transfer-Encoding", PLAIN, POST),
    (b"User-Agent", PLAIN, POST),
    (b"X-Forwarded-For", PLAIN, POST),
    (b"X-Forwarded-Host", PLAIN, POST),
    (b"X-Forwarded-Proto", PLAIN, POST),
    (b"X-Request-ID", PLAIN, GET),
)
HEAD = b"\r\nX-Serial: %(serial)s\r\nHost: x\r\n"
LINES = {
    "field lines of GET /verify": b"GET /verify HTTP/1.1" + HEAD + b"%(text)s\r\n\r\n",
    "field lines of POST /logout": b"POST /logout HTTP/1.1" + HEAD + b"%(text)s\r\n\r\n",
    "before the request": b"%(text)sGET /verify HTTP/1.1" + HEAD + b"\r\n",
}
WORDS = {
    "field name": b"GET /verify HTTP/1.1" + HEAD + b"%(text)s: 1\r\n\r\n",
    "request line": b"%(text)s" + HEAD + b"\r\n",
    "method": b"%(text)s /verify HTTP/1.1" + HEAD + b"\r\n",
    "path": b"GET /%(serial)s%(text)s HTTP/1.1" + HEAD + b"\r\n",
    "target": b"GET %(text)s HTTP/1.1" + HEAD + b"\r\n",
    "path of a POST": b"POST /%(serial)s%(text)s HTTP/1.1" + HEAD + b"\r\n",
    "query": b"GET /verify?%(text)s HTTP/1.1" + HEAD + b"\r\n",
    "authority": b"GET http://%(serial)s%(text)s/verify HTTP/1.1" + HEAD + b"\r\n",
}
IN_SESSION = {
    "query of GET /user/activity": b"GET /user/activity?%s",
    "before= of GET /user/activity": b"GET /user/activity?before=%s",
    "id of DELETE /sessions/{id}": b"DELETE /sessions/%s",
    "query of GET /sessions": b"GET /sessions?%s",
}


def _in_field(
    route: tuple[bytes, bytes], name: bytes, form: bytes, text: bytes, visitor: Visitor
) -> Request:
    line = b"%s: %s" % (name, form % (visitor.serial, text))
    return Request((message(*route, visitor, line),))


def _in_session(form: bytes, text: bytes, visitor: Visitor) -> Request:
    method, _, target = (form % text).partition(b" ")
    return Request((message(method, target, visitor, _session(visitor)),))


def _anywhere(form: bytes, text: bytes, visitor: Visitor) -> Request:
    return Request((form % {b"text": text, b"serial": visitor.serial},))


def _of_the_header() -> Iterator[Place]:
    for name, value, route in FIELDS:
        title = (b"%s of %s %s" % (name, *route)).decode()
        build = partial(_in_field, route, name, value)
        yield Place(title, (1_000, HEADER), build, QUOTED, one_line=True)
    for title, form in LINES.items():
        yield Place(title, (TARGET, HEADER), partial(_anywhere, form))
    for title, form in WORDS.items():
        yield Place(title, (TARGET, HEADER), partial(_anywhere, form), one_line=True)
    for title, form in IN_SESSION.items():
        yield Place(title, (250, TARGET), partial(_in_session, form), one_line=True)


# Tokens

TOKENS: dict[str, Callable[[bytes, bytes, bytes], bytes]] = {
    "": lambda text, serial, _: serial + text,
    "header of ": lambda text, serial, _: _encoded(text) + b".e30." + serial,
    "payload of ": lambda text, serial, good: b".".join(
        (good.partition(b".")[0], _encoded(text), serial)
    ),
    "signature of ": lambda text, serial, good: good + text + serial,
}


def _in_token(
    form: Callable[[bytes, bytes, bytes], bytes], text: bytes, visitor: Visitor
) -> Request:
    bearer = b"Authorization: Bearer " + form(text, visitor.serial, visitor.token)
    return Request((message(*GET, visitor, bearer),))


def _in_device(
    form: Callable[[bytes, bytes, bytes], bytes], text: bytes, visitor: Visitor
) -> Request:
    cookie = b"Cookie: __Host-device=" + form(text, visitor.serial, visitor.device)
    return Request((message(b"POST", b"/login", visitor, cookie, body=LOGIN),))


def _in_many(text: bytes, visitor: Visitor) -> Request:
    """Return session cookies by the hundred, whose tokens name our key and end differently."""
    header = visitor.token.partition(b".")[0]
    form = b"__Host-jwt=%s.%s.%%d%s" % (header, text[:50].hex().encode(), visitor.serial)
    count = max(1, len(text) // (len(form) + 4))
    cookies = b"; ".join(form % number for number in range(count))
    return Request((message(*GET, visitor, b"Cookie: " + cookies),))


def _of_tokens() -> Iterator[Place]:
    yield Place("many session cookies", (HEADER - 1_000,), _in_many)
    for title, form in TOKENS.items():
        yield Place(f"{title}a token", (60, TOKEN), partial(_in_token, form), one_line=True)
        yield Place(f"{title}a device token", (60, TOKEN), partial(_in_device, form), one_line=True)


# Bodies

LOGIN = b'{"usernameOrEmail":"a","password":"b"}'
BODIES = {
    "POST /login": ("usernameOrEmail", "password"),
    "POST /register": ("username", "email", "password"),
    "POST /logout": ("everywhere",),
    "PATCH /user": ("username", "password"),
    "DELETE /user": ("password",),
    "PUT /user/password": ("currentPassword", "newPassword"),
    "POST /sessions/reauthenticate": ("password",),
}
OPEN = ("POST /login", "POST /register", "POST /logout")  # these would end the session
LENGTHS = (80, 254, 1_024, 8_192, 12_288, BODY)  # names, passwords, and marks of 2 and 3 bytes
GIVEN = {"username": "a", "email": "a@b", "everywhere": False}


def _in_body(route: str, form: bytes, text: bytes, visitor: Visitor) -> Request:
    method, _, target = route.encode().partition(b" ")
    body = form.replace(b"TEXT", text)
    fields = [] if route in OPEN else [_session(visitor)]
    return Request((message(method, target, visitor, *fields, body=body),))


def _body_forms(names: tuple[str, ...]) -> Iterator[tuple[str, bytes, bytes]]:
    yield "body", b"TEXT", b"{}"
    yield "object", b"{TEXT}", b'"a":0'
    yield "array", b"[TEXT]", b"0"
    whole: dict[str, object] = {name: GIVEN.get(name, "long enough") for name in names}
    yield "name of a field", json.dumps({**whole, "TEXT": ""}).encode(), b"a"
    for name in names:
        form = json.dumps({**whole, name: "TEXT"})
        good = json.dumps(whole[name])
        yield name, form.encode(), good.strip('"').encode()
        yield f"value of {name}", form.replace('"TEXT"', "TEXT").encode(), good.encode()


def _of_bodies() -> Iterator[Place]:
    for route, names in BODIES.items():
        for title, form, base in _body_forms(names):
            build = partial(_in_body, route, form)
            yield Place(f"{title} of {route}", LENGTHS, build, IN_JSON, base)


# Framing

CHUNKED = (
    b"POST /login HTTP/1.1" + HEAD + b"Content-Type: application/json\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)
CHUNKS = {
    "chunks": CHUNKED + b"%(text)s0\r\n\r\n",
    "size of a chunk": CHUNKED + b"%(text)s\r\n",
    "extension of a chunk": CHUNKED + b"1;%(text)s\r\n{\r\n0\r\n\r\n",
    "trailer": CHUNKED + b"1\r\n{\r\n0\r\n%(text)s\r\n\r\n",
}


def _byte_by_byte(build: Build, text: bytes, visitor: Visitor) -> Request:
    """Return what another place builds, with the last bytes of the text sent one at a time."""
    (data,) = build(text, visitor).pieces
    end = data.rindex(text) + len(text)
    begin = end - min(len(text), SINGLE)
    singles = (data[place : place + 1] for place in range(begin, end))
    return Request((data[:begin], *singles, data[end:]))


def _pipelined(text: bytes, visitor: Visitor) -> Request:
    count = 1 + len(text) // 200
    return Request((message(*GET, visitor, b"X: " + text[:50]) * count,), answers=count)


def _expected(text: bytes, visitor: Visitor) -> Request:
    fields = b"Expect: 100-continue"
    return Request((message(b"POST", b"/login", visitor, fields, body=text),))


def _cut_short(text: bytes, visitor: Visitor) -> Request:
    whole = message(b"POST", b"/login", visitor, body=b"{" + text)
    return Request((whole[:-1],), answers=0)


def _of_framing() -> Iterator[Place]:
    yield Place("blank lines", (BODY,), partial(_anywhere, LINES["before the request"]))
    for title, form in CHUNKS.items():
        yield Place(title, (BODY, FRAMED), partial(_anywhere, form))
    yield Place("pipelined requests", (HEADER,), _pipelined)
    yield Place("body after 100", (HEADER, BODY), _expected)
    yield Place("body that is cut short", (HEADER, BODY), _cut_short)


def _in_small_pieces() -> Iterator[Place]:
    user_agent = partial(_in_field, GET, b"User-Agent", PLAIN)
    login = partial(_in_body, "POST /login", b"{TEXT}")
    for title, size, build in (
        ("field", HEADER, user_agent),
        ("body", BODY, login),
        *((title, FRAMED, partial(_anywhere, form)) for title, form in CHUNKS.items()),
    ):
        yield Place(f"{title}, byte by byte", (SINGLE, size), partial(_byte_by_byte, build))


PLACES = (*_of_the_header(), *_of_tokens(), *_of_bodies(), *_of_framing())
SLOW_PLACES = tuple(_in_small_pieces())
