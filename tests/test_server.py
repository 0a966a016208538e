"""The server: requests on raw sockets, well formed and not, and answers of all kinds."""

import json
import re
import socket
import struct
import threading
from contextlib import ExitStack

import pytest
from conftest import (
    connected,
    eventually,
    exchange,
    running,
    token_of,
)

from authapi.bodies import BODY_LIMIT


@pytest.fixture(name="port")
def _port(make_app):
    with running(make_app()) as port:
        yield port


GET = b"GET /user HTTP/1.1\r\nHost: x\r\n"
POST = b"POST /login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"


@pytest.mark.parametrize(
    "message",
    [
        POST + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: \r\n\r\n",
        POST + b"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        POST + b"transfer-encoding: xchunked\r\nContent-Length: 0\r\n\r\n",
        b"POST /login HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        POST + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}",
        POST + b"Content-Length: 2, 2\r\n\r\n{}",
        POST + b"Content-Length: +2\r\n\r\n{}",
        POST + b"Content-Length: -2\r\n\r\n{}",
        POST + b"Content-Length: 0x2\r\n\r\n{}",
        POST + b"Content-Length:\r\n\r\n",
        POST + b"Transfer-Encoding: chunked\r\n\r\nx\r\n{}\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n{}\r\n0\r\n\r\n",
        GET + b"Host: y\r\n\r\n",
        GET + b"host: x\r\n\r\n",
        b"GET /user HTTP/1.1\r\n\r\n",
        b"GET /user HTTP/1.1\r\nHost:\r\n\r\n",
        b"GET /user HTTP/1.1\r\nHost: x, y\r\n\r\n",
        b"GET /user HTTP/1.1\r\nHost: x/y\r\n\r\n",
        b"GET /user HTTP/1.1\r\nHost: u@x\r\n\r\n",
        b"GET /user HTTP/1.1\r\nHo st: x\r\n\r\n",
        b"GET /user HTTP/1.0\r\nHost: x\r\nHost: y\r\n\r\n",
        b"GET /user\r\n\r\n",
        b"GET /user HTTP/0.9\r\nHost: x\r\n\r\n",
        b"GET /user HTTP/2.0\r\nHost: x\r\n\r\n",
        b"GET /user HTTP/1.11\r\nHost: x\r\n\r\n",
        b"get /user HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET  /user HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /us\0er HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /us\ter HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /us\x7fer HTTP/1.1\r\nHost: x\r\n\r\n",
        GET + b"Cookie: a\0b\r\n\r\n",
        GET + b"Cookie: a\rb\r\n\r\n",
        GET + b"Cookie: a\nb: c\r\n\r\n",
        GET + b"Cookie: a\r\n b\r\n\r\n",
        GET + b"\0: a\r\n\r\n",
        GET + b": a\r\n\r\n",
        GET + b"no colon\r\n\r\n",
        b"nonsense\r\n\r\n",
        b"GET http://[ HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET a://[x]/ HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET user HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /user#f HTTP/1.1\r\nHost: x\r\n\r\n",
        b"CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n",
        POST + b"Content-Length: " + b"1" * 5_000 + b"\r\n\r\n",
        b"\0\0\0\0\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    ],
)
def test_strict_parser(port, message):
    """A request that two parsers could read differently gets 400, and nothing more is read."""
    received = exchange(port, message + GET + b"\r\n")

    assert_failure(received, 400, "bad_request")
    assert received.count(b"HTTP/1.1 ") + received.count(b"HTTP/1.0 ") == 1


def assert_failure(received, status, error):
    head, _, body = received.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines[1:])
    assert int(lines[0].split()[1]) == status
    assert headers["connection"] == "close"
    assert headers["content-type"] == "application/json"
    assert headers["cache-control"] == "no-store"
    assert headers["x-content-type-options"] == "nosniff"
    assert len(headers["x-request-id"]) == 16
    assert "server" not in headers
    assert {"code", "message", "timestamp", "error"} == set(json.loads(body))
    assert json.loads(body)["error"] == error
    assert int(headers["content-length"]) == len(body)


@pytest.mark.parametrize(
    ("message", "status", "error"),
    [
        (
            GET + b"X: " + b"a" * 17_000 + b"\r\n\r\n",
            431,
            "headers_too_large",
        ),
        (
            b"GET /" + b"a" * 4_096 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
            414,
            "uri_too_long",
        ),
        (POST + b"Transfer-Encoding: gzip\r\n\r\n", 501, "not_implemented"),
        (
            POST + b"Content-Length: 65537\r\n\r\n" + b"x" * 65_537,
            413,
            "payload_too_large",
        ),
        (
            POST + b"Content-Length: 900000\r\n\r\n" + b"x" * 900_000,
            413,
            "payload_too_large",
        ),
        (
            POST + b"Content-Length: 99999999999\r\n\r\n",
            413,
            "payload_too_large",
        ),
        (
            POST + b"Content-Length: 99999\r\nExpect: 100-continue\r\n\r\n",
            413,
            "payload_too_large",
        ),
        (
            POST + b"Transfer-Encoding: chunked\r\n\r\n11000\r\n" + b"x" * 69_632,
            413,
            "payload_too_large",
        ),
        (
            POST + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * (BODY_LIMIT + 1),
            413,
            "payload_too_large",
        ),
        (
            POST + b"Transfer-Encoding: chunked\r\n\r\n1;" + b"a" * 8 * BODY_LIMIT,
            413,
            "payload_too_large",
        ),
    ],
)
def test_limits(port, message, status, error):
    """Each limit has its answer, in the envelope, with our headers; and the client gets it."""
    assert_failure(exchange(port, message), status, error)


def test_largest_of_everything(port):
    """A request within all limits is answered by the application."""
    url = b"/" + b"a" * 4_095
    cookie = b"X: " + b"a" * 11_000
    close = b"Connection: close\r\n\r\n"
    body = b'{"usernameOrEmail":"a","password":"' + b"b" * (BODY_LIMIT - 37) + b'"}'
    length = b"Content-Length: %d\r\n" % len(body)

    assert b" 404 " in exchange(
        port, b"GET " + url + b" HTTP/1.1\r\nHost: x\r\n" + cookie + b"\r\n" + close
    )
    assert len(body) == BODY_LIMIT
    assert b" 401 " in exchange(port, POST + length + close + body)
    pieces = [body[begin : begin + 64] for begin in range(0, BODY_LIMIT, 64)]
    chunks = b"".join(b"40\r\n%s\r\n" % piece for piece in pieces) + b"0\r\n\r\n"
    assert b" 401 " in exchange(port, POST + b"Transfer-Encoding: chunked\r\n" + close + chunks)


def test_well_formed(port):
    """HTTP/1.0 without a Host, chunks, a blank line before, absolute and asterisk forms work."""
    close = b"Connection: close\r\n\r\n"
    assert b" 401 " in exchange(port, b"GET /user HTTP/1.0\r\n\r\n")
    assert b" 401 " in exchange(port, b"\r\n" + GET + close)
    assert b" 401 " in exchange(port, b"GET http://x/user HTTP/1.1\r\nHost: x\r\n" + close)
    assert b" 404 " in exchange(port, b"OPTIONS * HTTP/1.1\r\nHost: x\r\n" + close)
    chunked = (
        b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n1\r\n{\r\n1;a=b\r\n}\r\n0\r\n\r\n"
    )
    assert b" 422 " in exchange(port, POST + chunked)
    for method in (b"FOO", b"PROPFIND", b"CONNECT", b"TRACE"):
        answer = exchange(port, method + b" /user HTTP/1.1\r\nHost: x\r\n" + close)
        assert b" 405 " in answer
        assert b"Allow: DELETE, GET, HEAD, PATCH, OPTIONS\r\n" in answer


def test_pipelining(port):
    """Requests that come together are answered one after the other, in order."""
    received = exchange(
        port,
        GET
        + b"\r\n"
        + POST
        + b"Content-Length: 2\r\n\r\n{}"
        + GET
        + b"\r\nGET /nowhere HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    )

    assert re.findall(rb"HTTP/1.1 (\d+)", received) == [b"401", b"422", b"401", b"404"]


def test_aborted_requests(port):
    """Clients that vanish in the middle leave the server answering the next one."""
    for message in (b"", b"GET", GET, POST + b"Content-Length: 99\r\n\r\n{", GET + b"\r\n"):
        for how in (socket.SHUT_WR, socket.SHUT_RDWR):
            with connected(port) as connection:
                connection.sendall(message)
                connection.shutdown(how)

    assert b" 401 " in exchange(port, GET + b"Connection: close\r\n\r\n")


class Held:
    """Keeps a thread until the test says."""

    public = True

    def __init__(self):
        self.running, self.go = [], threading.Event()

    def on_post(self, req, _resp):
        self.running.append(req)
        self.go.wait()


def test_session_checks_while_every_thread_waits(make_client):
    """With all threads held by requests, session checks are still answered."""
    client, held = make_client(threads=2, hash_slots=1), Held()
    client.app.add_route("/held", held)
    token = token_of(client.register()).encode()
    check = GET + b"Cookie: jwt=" + token + b"\r\nConnection: close\r\n\r\n"
    with running(client.app) as port, ExitStack() as stack:
        stack.callback(held.go.set)
        for _ in range(3):
            connection = stack.enter_context(connected(port))
            connection.sendall(b"POST /held HTTP/1.1\r\nHost: x\r\n\r\n")
        eventually(lambda: len(held.running) == 2)
        assert b" 200 OK" in exchange(port, check)


class Broken:
    """Fails when the server asks for the answer, outside of the application."""

    public = True

    def on_get(self, _req, resp):
        resp.stream = self.fail()

    def fail(self):
        raise MemoryError
        yield b""


def test_an_application_that_breaks_its_answer(make_app):
    """An exception that escapes the application gets our 500, with our headers."""
    app = make_app()
    app.add_route("/broken", Broken())
    with running(app) as port:
        received = exchange(port, b"GET /broken HTTP/1.1\r\nHost: x\r\n\r\n")

    assert_failure(received, 500, "internal_error")


def test_failures_of_the_server_as_problems(port):
    """Refusals of the parser come as problem details for clients that prefer them."""
    message = POST + b"Accept: application/problem+json\r\nContent-Length: 70000\r\n\r\n"

    head, _, body = exchange(port, message).partition(b"\r\n\r\n")

    assert b"Content-Type: application/problem+json\r\n" in head
    assert json.loads(body)["status"] == 413


def test_head_of_a_failure(port):
    """A failed HEAD has no body either."""
    message = b"HEAD /user HTTP/1.1\r\nHost: x\r\nContent-Length: 70000\r\n\r\n"

    assert exchange(port, message).endswith(b"\r\n\r\n")


def test_no_method_of_falcons_own(port):
    """The name that Falcon keeps for WebSockets is no method, and no fault of ours."""
    message = b"WEBSOCKET /user HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"

    received = exchange(port, message)

    assert b" 400 " in received
    assert b"X-Request-Id: " in received
    assert b'"error":"bad_request"' in received


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        (b"//user", "//user"),
        (b"/%2fuser", "/%2fuser"),
        (b"//x//y", "//x//y"),
        (b"/a%2fb?c=d", "/a%2fb"),
        (b"/%ff<", "/%ff%3C"),
        (b"http://x//user", "//user"),
    ],
)
def test_paths_are_taken_as_they_are(port, path, shown):
    """Slashes are not folded, and a path that is not found is shown as it was received."""
    received = exchange(port, b"GET " + path + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")

    assert b" 404 " in received
    assert json.loads(received.partition(b"\r\n\r\n")[2])["message"] == f'Path "{shown}" not found.'


def test_expect_without_a_body(client):
    """A request that expects to continue with nothing is answered, and leaves nothing to the next.

    waitress alone would read the next request's headers into it: with the first one's cookie.
    """
    token = token_of(client.register()).encode()
    with running(client.app) as port:
        received = exchange(
            port,
            GET
            + b"Cookie: jwt="
            + token
            + b"\r\nExpect: 100-continue\r\n\r\n"
            + GET
            + b"Connection: close\r\n\r\n",
        )

    assert re.findall(rb"HTTP/1.1 (\d+)", received) == [b"200", b"401"]


def test_white_space_before_a_value(port):
    """White space before a value is no part of it, however much there is."""
    message = b"GET /user HTTP/1.1\r\nHost:" + b" \t" * 7_000 + b"x\r\nConnection:  close\r\n\r\n"

    assert b" 401 " in exchange(port, message)


class Large:
    """Answers a megabyte, and a stream that comes in pieces."""

    public = True

    def on_get(self, _req, resp):
        resp.data = b"x" * 1_000_000

    def on_post(self, _req, resp):
        resp.stream = (b"%d," % number for number in range(20_000))


def test_large_answers_in_order(make_app):
    """Large, streamed and quick answers to pipelined requests arrive whole and in order."""
    app = make_app()
    app.add_route("/large", Large())
    large = b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n"
    stream = b"POST /large HTTP/1.1\r\nHost: x\r\n\r\n"
    last = GET + b"Connection: close\r\n\r\n"
    with running(app) as port:
        received = exchange(port, (large + GET + b"\r\n") * 10 + last)
        streamed = exchange(port, stream)

    answers = re.split(rb"(?=HTTP/1.1 )", received)[1:]
    assert [int(answer[9:12]) for answer in answers] == [200, 401] * 10 + [401]
    assert all(answer.endswith(b"x" * 1_000_000) for answer in answers[:-1:2])
    assert len(re.findall(rb"\d+,", streamed)) == 20_000


def test_a_client_that_does_not_read(make_app):
    """A client that asks and asks, and reads nothing, holds up no one else."""
    app = make_app()
    app.add_route("/large", Large())
    with running(app) as port, connected(port) as greedy:
        greedy.sendall(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n" * 100 + (GET + b"\r\n") * 200)
        for _ in range(20):
            assert b" 401 " in exchange(port, GET + b"Connection: close\r\n\r\n")


def test_clients_that_vanish_while_they_are_told_to_continue(port):
    """A connection that is reset while a worker says 100 is closed by the loop, which lives on."""
    body = b'{"usernameOrEmail":"a","password":"b"}'
    login = POST + b"Content-Length: %d\r\n\r\n" % len(body) + body
    expecting = POST + b"Content-Length: 5\r\nExpect: 100-continue\r\n\r\n"
    reset = struct.pack("ii", 1, 0)
    for _ in range(100):
        with connected(port) as connection:
            connection.sendall(login + expecting)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)

    assert b" 401 " in exchange(port, GET + b"Connection: close\r\n\r\n")


def test_clients_that_vanish_after_a_bad_request(port, caplog):
    """A reset in place of reading the failure leaves no traceback in the log."""
    reset = struct.pack("ii", 1, 0)
    for _ in range(200):
        with connected(port) as connection:
            connection.sendall(b"nonsense\r\n\r\n")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)

    assert b" 401 " in exchange(port, GET + b"Connection: close\r\n\r\n")
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []
