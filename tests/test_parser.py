"""The parser remembers headers, and nothing else of a request."""

import pytest
from waitress.adjustments import Adjustments

from authapi.errors import BadRequest
from authapi.server.parser import (
    LONGEST_REMEMBERED,
    REMEMBERED,
    StrictParser,
    _known,
    known_request,
)

ADJUSTMENTS = Adjustments()
GET = b"GET /user?a=b HTTP/1.1\r\nHost: a\r\nCookie: jwt=x\r\n"


def parsed(data):
    """Return the request that bytes are, as a connection does."""
    known = known_request(data, ADJUSTMENTS)
    if known is not None:
        return known
    parser = StrictParser(ADJUSTMENTS)
    assert parser.received(data) == len(data)
    assert parser.completed
    return parser


def seen(parser):
    """Return everything that a server reads from a parser."""
    return {
        name: value
        for name, value in vars(parser).items()
        if name not in {"adj", "body_rcv", "header_plus"}
    }


def test_a_known_header_is_known_alike():
    """The second time a header comes, all of the parser is as it was the first time."""
    _known.cache_clear()
    first, second = parsed(GET + b"\r\n"), parsed(GET + b"\r\n")

    assert _known.cache_info().hits == 1
    assert seen(first) == seen(second)
    assert second.headers == {"HOST": "a", "COOKIE": "jwt=x"}
    assert (second.command, second.path, second.query, second.version) == (
        "GET",
        "/user",
        "a=b",
        "1.1",
    )


def test_requests_share_nothing():
    """A change to one request's headers does not reach the next."""
    parsed(GET + b"\r\n").headers["COOKIE"] = "jwt=other"

    assert parsed(GET + b"\r\n").headers["COOKIE"] == "jwt=x"


@pytest.mark.parametrize(
    ("header", "bodies"),
    [
        (GET + b"Content-Length: 3\r\n\r\n", [(b"one", b"one"), (b"two", b"two")]),
        (
            GET + b"Transfer-Encoding: chunked\r\n\r\n",
            [(b"3\r\none\r\n0\r\n\r\n", b"one"), (b"3\r\ntwo\r\n0\r\n\r\n", b"two")],
        ),
    ],
)
def test_each_request_has_its_own_body(header, bodies):
    """A GET may have a body, which is never that of an earlier one."""
    for sent, body in bodies:
        parser = StrictParser(ADJUSTMENTS)
        assert not parser.received(header) - len(header)
        assert not parser.completed
        parser.received(sent)
        assert parser.completed
        assert parser.get_body_stream().read() == body


@pytest.mark.parametrize("line", [b"Expect: 100-continue\r\n", b"Connection: close\r\n"])
def test_what_a_header_asks_for(line):
    """A header is interpreted each time that it comes."""
    first, second = parsed(GET + line + b"\r\n"), parsed(GET + line + b"\r\n")

    assert seen(first) == seen(second)
    assert second.expect_continue is False
    assert second.connection_close is (b"close" in line)


def test_a_fault_is_a_fault_each_time():
    """A header that is refused is not remembered as one that passes."""
    for _ in range(2):
        assert isinstance(parsed(GET + b"Host: b\r\n\r\n").error, BadRequest)


def test_a_fault_is_told_as_the_request_asks():
    """The answer to a fault follows the version and headers that were read before it."""
    head = b"GET /user HTTP/1.1\r\nAccept: application/problem+json\r\n\r\n"  # no Host
    for sent in (head, head.replace(b"GET", b"PUT")):
        parser = StrictParser(ADJUSTMENTS)
        parser.received(sent)
        assert parser.error is not None
        assert (parser.version, parser.headers) == ("1.1", {"ACCEPT": "application/problem+json"})


def test_memory_is_bounded():
    """Long headers are not kept, and no more than so many short ones."""
    _known.cache_clear()
    parsed(GET + b"X: " + b"x" * LONGEST_REMEMBERED + b"\r\n\r\n")
    parsed(GET + b"X:\r\n" * 40 + b"\r\n")
    assert _known.cache_info().currsize == 0

    for number in range(REMEMBERED + 10):
        parsed(GET + b"X: %d\r\n\r\n" % number)
    assert _known.cache_info().currsize == REMEMBERED
