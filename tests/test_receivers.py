"""Bodies and headers as they arrive: however they are cut into packets, the same is read."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from waitress.adjustments import Adjustments

from authapi.server.parser import StrictParser
from authapi.server.receivers import ChunkedReceiver, SizedReceiver

ADJUSTMENTS = Adjustments()
CHUNKS = st.lists(st.binary(min_size=1, max_size=40), max_size=5)
CUTS = st.lists(st.integers(0, 400), max_size=8)


def pieces(data, cuts):
    """Return the data in pieces, cut at these places."""
    places = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    return [data[begin:end] for begin, end in pairwise(places)]


def fed(receiver, data, cuts):
    """Return the content that a receiver takes of the data, and the number of bytes it took."""
    taken = 0
    for piece in pieces(data, cuts):
        took = receiver.received(piece)
        taken += took
        if took < len(piece) or receiver.completed or receiver.failed:
            break
    return receiver.getfile().read(), taken


@given(CHUNKS, CUTS, st.binary(max_size=20))
def test_chunks(chunks, cuts, behind):
    """A chunked body ends where it ends, and what follows is left."""
    body = b"".join(b"%x;a=b\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)
    body += b"0\r\nTrailer: x\r\n\r\n"
    receiver = ChunkedReceiver()

    assert fed(receiver, body + behind, cuts) == (b"".join(chunks), len(body))
    assert (receiver.completed, receiver.failed) == (True, False)
    assert receiver.framing == len(body) - len(b"".join(chunks))


@given(st.binary(min_size=1, max_size=100), CUTS, st.binary(max_size=20))
def test_a_length(body, cuts, behind):
    """A body of a known length takes so many bytes."""
    receiver = SizedReceiver(len(body))

    assert fed(receiver, body + behind, cuts) == (body, len(body))
    assert receiver.completed


@pytest.mark.parametrize(
    "body",
    [
        *(b"x\r\n", b"\r\n", b"-1\r\n", b"0x1\r\n", b"1 \r\nx\r\n", b" 1\r\nx\r\n", b"+1\r\nx\r\n"),
        *(b"1\r\nxy\r\n", b"1\nx\r\n\r\n", b"1;\r\nx\r\n", b'1;a="\r\nx\r\n', b"1\r\nx\r\n\r\n"),
        *(b"0\r\nno trailer\r\n\r\n", b"0\r\na: \0\r\n\r\n", b"1" * 17 + b"\r\n"),
    ],
)
@pytest.mark.parametrize("cuts", [[], list(range(1, 30))])
def test_bad_chunks(body, cuts):
    """Framing that another server could read differently fails, whole or byte by byte."""
    receiver = ChunkedReceiver()
    fed(receiver, body, cuts)

    assert receiver.failed


HEADERS = [
    b"GET /user HTTP/1.1\r\nHost: x\r\nCookie: a=b\r\nCookie: c=d\r\n\r\n",
    b"\r\n\r\nPOST /login HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\n" + b"a: b\r\n" * 101 + b"\r\n",
    b"GET /" + b"x" * 5_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
]


@pytest.mark.parametrize("header", HEADERS)
@given(cuts=st.lists(st.integers(0, 700), max_size=8))
def test_headers(header, cuts):
    """A header is read, or refused, alike however it is cut into packets."""

    def read(places):
        parser = StrictParser(ADJUSTMENTS)
        for piece in pieces(header, places):
            if not (parser.completed or parser.headers_finished):
                parser.received(piece)
        return parser.request_uri, parser.headers.get("COOKIE"), type(parser.error)

    assert read(cuts) == read([])
