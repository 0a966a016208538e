"""Answers of the server's loop are those that a thread gives, byte for byte but for order."""

import io
import re

import pytest
from conftest import connected, exchange, running

NEXT = b"GET /livez HTTP/1.0\r\n\r\n"


class Resource:
    """Answers by the path's resource: each is added once for the loop, and once for threads."""

    public = True

    def __init__(self, answer, *, quick):
        self.answer, self.quick = answer, quick

    def on_get(self, req, resp):
        self.answer(req, resp)


def text(_req, resp):
    resp.text = "é" * 7


def empty(_req, resp):
    resp.status = 204


def not_modified(_req, resp):
    resp.status = 304
    resp.text = "x"


def nothing(_req, resp):
    resp.data = b""


def own_headers(_req, resp):
    resp.text = "x"
    for name, value in (("Date", "then"), ("Server", "mine"), ("x-odd_NAME", "é")):
        resp.set_header(name, value)
    resp.append_header("X-Two", "1")
    resp.append_header("X-Two", "2")
    resp.append_header("Set-Cookie", "a=b")
    resp.append_header("Set-Cookie", "c=d")


def pieces(_req, resp):
    resp.stream = [b"one", b"", b"two"]


def pieces_of_a_length(_req, resp):
    resp.stream, resp.content_length = iter([b"one", b"two"]), 6


def too_few(_req, resp):
    resp.stream, resp.content_length = iter([b"one"]), 6


def file(_req, resp):
    resp.stream, resp.content_length = io.BytesIO(b"file"), 4


def break_in_value(_req, resp):
    resp.text = "x"
    resp.set_header("X-A", "b\r\nX-Forged: c")


def break_in_name(_req, resp):
    resp.text = "x"
    resp.set_header("X-A: b\nX-Forged", "c")


def break_in_status(_req, resp):
    resp.text, resp.status = "x", "200 OK\r\nX-Forged: c"


def not_its_own(_req, resp):
    resp.text = "x"
    resp.set_header("Connection", "upgrade")


def beyond_latin_1(_req, resp):
    resp.text = "x"
    resp.set_header("X-A", "\u20ac")


def failing(_req, _resp):
    raise ZeroDivisionError


def large(_req, resp):
    resp.data = b"x" * 4_000_000


ANSWERS = [
    *(text, empty, not_modified, nothing, own_headers, pieces, pieces_of_a_length, too_few, file),
    *(break_in_value, break_in_name, break_in_status, not_its_own, beyond_latin_1),
    *(failing, large),
]


def answered(port, place, line, *fields):
    """Send a request, and one behind it that ends the connection; return what came.

    It is without what differs each time, and without the order of header lines.
    """
    head = "".join(f"{field}\r\n" for field in ("Host: x", *fields))
    received = exchange(port, f"{line.format(place)}\r\n{head}\r\n".encode() + NEXT)
    changing = rb'(?i)(date:|x-request-id:|"timestamp":")[^\r"]*'
    received = re.sub(changing, rb"\1", received)
    parts = received.split(b"\r\n\r\n")
    return [sorted(part.split(b"\r\n")) if b"HTTP/1" in part else part for part in parts]


@pytest.mark.parametrize("answer", ANSWERS)
def test_in_the_loop_as_in_a_thread(make_app, answer):
    """Whatever an application answers is sent alike by the loop and by a thread."""
    app = make_app()
    app.add_route("/loop", Resource(answer, quick=True))
    app.add_route("/thread", Resource(answer, quick=False))
    with running(app) as port:
        for line in ("GET /{} HTTP/1.1", "HEAD /{} HTTP/1.1", "GET /{} HTTP/1.0"):
            for fields in ((), ("Connection: close",), ("Connection: keep-alive",)):
                loop, thread = (
                    answered(port, place, line, *fields) for place in ("loop", "thread")
                )
                assert loop == thread, (line, fields)
                assert b"HTTP/1." in b"".join(loop[0])


@pytest.mark.parametrize("answer", [break_in_value, break_in_name, break_in_status, not_its_own])
def test_forged_headers(make_app, answer):
    """A line break in a header is answered 500, and so is a header of the server's own."""
    app = make_app()
    app.add_route("/loop", Resource(answer, quick=True))
    with running(app) as port:
        received = exchange(port, b"GET /loop HTTP/1.1\r\nHost: x\r\n\r\n")
    assert received.startswith(b"HTTP/1.1 500 ")
    assert b"X-Forged" not in received


def test_the_same_bytes_from_another_port(make_app):
    """What is remembered of a request's bytes says nothing about its connection."""
    seen = []
    app = make_app()
    app.add_route("/loop", Resource(lambda req, resp: seen.append(req.env), quick=True))
    request = b"GET /loop HTTP/1.1\r\nHost: x\r\n\r\n"
    with running(app) as port, connected(port) as first, connected(port, "127.0.0.2") as second:
        for connection in (first, second, first):
            connection.sendall(request)
            assert connection.recv(15) == b"HTTP/1.1 200 OK"
            connection.recv(65_536)
        places = [(env["REMOTE_ADDR"], env["REMOTE_PORT"]) for env in seen]
        assert [address for address, _ in places] == ["127.0.0.1", "127.0.0.2", "127.0.0.1"]
        assert places == [
            (connection.getsockname()[0], str(connection.getsockname()[1]))
            for connection in (first, second, first)
        ]
    assert len({id(env["wsgi.input"]) for env in seen}) == 3
