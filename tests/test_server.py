"""The server: run.py as a process, driven by real clients, and raw sockets against the parser."""

import http.cookiejar
import json
import re
import resource
import shutil
import signal
import socket
import sqlite3
import struct
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest
from conftest import (
    RUN,
    USER,
    Clock,
    connected,
    exchange,
    process,
    request,
    running,
    serving,
    start,
    token_of,
)

import authapi
from authapi import AuthAPI, Settings
from authapi.bodies import BODY_LIMIT
from authapi.server import capacity
from authapi.server.start_log import warn_of

NOHUP = """
import os, signal, sys
signal.signal(signal.SIGHUP, signal.SIG_IGN)
os.execv(sys.executable, [sys.executable, sys.argv[1]])
"""


def refused(folder, *arguments, **environ):
    """Start the service where it must refuse; give its exit status and what it said."""
    service = start(folder, *arguments, **environ)
    output, error = service.communicate()
    assert output == ""
    return service.returncode, error


@pytest.mark.parametrize("run", [(RUN,), (RUN.name,), ("-m", "authapi", "serve")])
def test_start(tmp_path, run):
    """A start says one line, makes database and keys, and answers; SIGTERM ends it with 0."""
    if run == (RUN.name,):
        shutil.copytree(RUN.parent / "authapi", tmp_path / "authapi")
        shutil.copytree(RUN.parent / "sql", tmp_path / "sql")
        shutil.copy(RUN, tmp_path)
    service = start(tmp_path, run=run, AUTHAPI_HASH_SLOTS="2")

    line = service.stdout.readline()
    port = int(re.search(r":(\d+)", line)[1])
    status, _, headers = request(f"http://127.0.0.1:{port}/user")
    service.send_signal(signal.SIGTERM)
    output, error = service.communicate()

    expected = (
        f"authapi listens on http://127.0.0.1:{port}, database {tmp_path}/authapi.db, "
        f"SQLite {sqlite3.sqlite_version}, "
        "memory up to 122 MiB (120 + 1 worker x 2 hash slots x 1)\n"
    )
    assert line == expected
    assert (status, headers["Server"]) == (401, None)
    assert (output, service.returncode) == ("", 0)
    assert "are below what OWASP recommends" in error
    made = {path.name for path in tmp_path.iterdir() if path.name.startswith("authapi.db")}
    assert made == {"authapi.db", "authapi.db.key", "authapi.db.lock", "authapi.db.root"}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_interrupt(tmp_path, number):
    """Ctrl-C ends it as SIGTERM does, and so does a terminal that is closed."""
    with process(tmp_path) as (service, _):
        service.send_signal(number)
        assert service.wait() == 0


def test_nohup(tmp_path):
    """Under `nohup` it outlives its terminal."""
    with process(tmp_path, run=("-c", NOHUP, RUN)) as (service, url):
        service.send_signal(signal.SIGHUP)
        assert request(f"{url}/user")[0] == 401
        service.terminate()
        assert service.wait() == 0


def test_flags(tmp_path):
    """The flags stand before the environment."""
    url = f"sqlite:///{tmp_path}/flag.db"
    flags = ("--host", "127.0.0.1", "--database-url", url, "--public-url", "https://x.example")

    with process(tmp_path, *flags, AUTHAPI_DATABASE_URL="sqlite:///env.db") as (_, address):
        _, _, headers = request(f"{address}/user")

    assert "Strict-Transport-Security" in headers
    assert (tmp_path / "flag.db").exists()
    assert not (tmp_path / "env.db").exists()


def test_version():
    """The command tells the version of the code that it runs."""
    command = [sys.executable, "-m", "authapi", "--version"]

    assert subprocess.check_output(command, text=True) == f"authapi {authapi.__version__}\n"


def test_running_requests_finish(tmp_path):
    """A login that runs when the stop comes is answered, and kept; then the exit status is 0."""
    with process(tmp_path, AUTHAPI_ARGON2_MEMORY_KIB="262144") as (service, address):
        port = int(address.rpartition(":")[2])
        with connected(port) as connection:
            body = json.dumps(USER).encode()
            connection.sendall(
                b"POST /register HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                b"Content-Length: %d\r\nExpect: 100-continue\r\n\r\n" % len(body)
            )
            assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
            connection.sendall(body[:-1])
            service.send_signal(signal.SIGTERM)
            connection.sendall(body[-1:])
            answer = connection.recv(65_536)
        assert service.wait() == 0

    assert answer.startswith(b"HTTP/1.1 201 Created\r\n")
    database = sqlite3.connect(tmp_path / "authapi.db")
    assert database.execute("SELECT username FROM users").fetchall() == [(USER["username"],)]
    database.close()


def test_taken_port(tmp_path):
    """A taken port stops the start with one sentence, before anything is made."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        status, error = refused(tmp_path, AUTHAPI_PORT=port)

    assert status == 1
    assert error == (
        f"authapi: Cannot listen on 127.0.0.1:{port} (Address already in use): "
        "stop what listens there, or set another AUTHAPI_HOST or AUTHAPI_PORT.\n"
    )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("environ", "status", "says"),
    [
        ({"AUTHAPI_PORT": "x"}, 2, "AUTHAPI_PORT must be a whole number"),
        ({"AUTHAPI_SECRET": "x"}, 2, "AUTHAPI_SECRET_KEY was likely meant"),
        ({"AUTHAPI_SECRET_KEY": "short"}, 2, "AUTHAPI_SECRET_KEY has 5 bytes"),
        ({"AUTHAPI_HOST": "203.0.113.1"}, 1, "Cannot listen on 203.0.113.1"),
        ({"AUTHAPI_HOST": "no such host"}, 2, "AUTHAPI_HOST must be an IP address"),
        ({"AUTHAPI_DATABASE_URL": "sqlite:////proc/a.db"}, 1, "/proc/a.db cannot be written"),
        ({"AUTHAPI_KEY_FILE": "/proc/a.key"}, 1, "The key file /proc/a.key cannot be used"),
        ({"AUTHAPI_DATABASE_URL": f"sqlite:///{RUN}"}, 1, "is no SQLite database"),
    ],
)
def test_refused_starts(tmp_path, environ, status, says):
    """What stops a start is one sentence on standard error, and an exit status."""
    found, error = refused(tmp_path, **environ)

    assert (found, error.count("\n")) == (status, 1)
    assert error.startswith("authapi: ")
    assert says in error


def curl(url, jar, *options):
    command = ["curl", "-s", "-b", jar, "-c", jar, "-w", "\n%{http_code}", *options, url]
    body, _, status = subprocess.check_output(command, text=True).rpartition("\n")
    return int(status), json.loads(body)


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
def test_curl(tmp_path):
    """A cookie jar of curl, from registration to logout."""
    jar = tmp_path / "jar"
    json_body = ("-H", "Content-Type: application/json", "-d")
    login = json.dumps({"usernameOrEmail": USER["email"], "password": USER["password"]})
    with process(tmp_path) as (_, url):
        assert curl(f"{url}/user", jar)[0] == 401
        assert curl(f"{url}/register", jar, *json_body, json.dumps(USER))[0] == 201
        assert curl(f"{url}/user", jar)[1]["user"]["email"] == USER["email"]
        assert curl(f"{url}/logout", jar, "-X", "POST")[0] == 200
        assert curl(f"{url}/user", jar)[1]["error"] == "not_authenticated"
        assert curl(f"{url}/login", jar, *json_body, login)[0] == 200
        assert curl(f"{url}/", jar)[0] == 200
        assert "jwt" in jar.read_text()
        assert curl(f"{url}/logout", jar, "-X", "POST")[1]["user"] is None
        assert "jwt" not in jar.read_text()


def test_cookiejar(tmp_path):
    """Python's own client, from login to logout; the jar is empty after it."""
    jar = http.cookiejar.CookieJar()
    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(jar))
    login = {"usernameOrEmail": USER["username"], "password": USER["password"]}
    with process(tmp_path) as (_, url):
        assert request(f"{url}/register", USER)[0] == 201
        assert request(f"{url}/user", opener=opener)[0] == 401
        assert request(f"{url}/login", login, opener)[0] == 200
        (cookie,) = [each for each in jar if each.name != "device"]
        assert (cookie.name, cookie.path, cookie.has_nonstandard_attr("HttpOnly")) == (
            "jwt",
            "/",
            True,
        )
        assert request(f"{url}/user", opener=opener)[1]["user"]["username"] == USER["username"]
        assert request(f"{url}/logout", {}, opener)[0] == 200
        assert [each.name for each in jar] == ["device"]
        replay = request(f"{url}/user", Cookie=f"jwt={cookie.value}")
        assert replay[1]["error"] == "invalid_token"


def test_two_processes_on_one_database(tmp_path):
    """Two processes share users, sessions and keys; what one ends is dead in the other at once."""
    with process(tmp_path) as (_, one), process(tmp_path) as (_, other):
        _, _, headers = request(f"{one}/register", USER)
        cookie = headers["Set-Cookie"].partition(";")[0]
        assert request(f"{other}/user", Cookie=cookie)[0] == 200
        assert request(f"{other}/register", USER)[1]["error"] == "username_taken"

        def hammer(url):
            return [request(f"{url}/user", Cookie=cookie)[0] for _ in range(100)]

        with ThreadPoolExecutor(4) as pool:
            hammering = [pool.submit(hammer, url) for url in (one, other, one, other)]
            assert request(f"{one}/logout", {}, Cookie=cookie)[0] == 200
            assert request(f"{other}/user", Cookie=cookie)[0] == 401
            for statuses in hammering:
                results = statuses.result()
                assert results == sorted(results)  # 200s, then 401s
                assert results[-1] == 401


def test_writers_in_two_processes(tmp_path):
    """Registrations in two processes at once are all kept, each once."""
    off = {"AUTHAPI_RATE_LIMITS": "off"}
    with process(tmp_path, **off) as (_, one), process(tmp_path, **off) as (_, other):

        def register(number):
            name = f"user{number // 2}"
            body = {**USER, "username": name, "email": f"{name}@example.com"}
            while True:
                status, _, _ = request(f"{(one, other)[number % 2]}/register", body)
                if status != 503:
                    return status

        with ThreadPoolExecutor(8) as pool:
            statuses = list(pool.map(register, range(60)))

    assert sorted(statuses) == [201] * 30 + [409] * 30
    database = sqlite3.connect(tmp_path / "authapi.db")
    assert database.execute("SELECT count(*) FROM users").fetchone() == (30,)
    assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    database.close()


@pytest.fixture(name="monotonic")
def _monotonic():
    """The clock that holds clients to their deadlines."""
    return Clock()


@pytest.fixture(name="port")
def _port(make_app, monotonic):
    with running(make_app(), clock=monotonic) as port:
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
    """What two parsers could read differently is answered 400 and closed; nothing more is read."""
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
    """What is within the limits is answered by the application."""
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


@pytest.mark.parametrize("message", [b"G", GET, POST + b"Content-Length: 99\r\n\r\n{"])
def test_deadline(port, monotonic, message):
    """A request that trickles is answered 408 when its time is up, however lately a byte came."""
    with connected(port) as slow:
        slow.sendall(message)
        assert b" 401 " in exchange(port, GET + b"Connection: close\r\n\r\n")
        monotonic.move(10)
        received = b""
        while chunk := slow.recv(65_536):
            received += chunk

    assert_failure(received, 408, "request_timeout")


def test_silent_connections(port, monotonic):
    """A connection that never asks is closed when the time for a request is up."""
    with connected(port) as silent:
        assert b" 401 " in exchange(port, GET + b"Connection: close\r\n\r\n")
        monotonic.move(10)
        assert silent.recv(1) == b""


def test_a_deadline_is_for_one_request(port, monotonic):
    """A kept-alive connection that has been answered is not overdue."""
    with connected(port) as idle:
        idle.sendall(GET + b"\r\n")
        assert b" 401 " in idle.recv(65_536)
        with connected(port) as silent:
            assert b" 401 " in exchange(port, GET + b"Connection: close\r\n\r\n")
            monotonic.move(10)
            assert silent.recv(1) == b""  # maintenance has run
        idle.sendall(GET + b"\r\n")
        assert b" 401 " in idle.recv(65_536)


def test_session_checks_while_every_thread_waits(make_client):
    """With all threads held by logins, session checks are still answered."""
    client = make_client(threads=4, hash_slots=2)
    token = token_of(client.register()).encode()
    lane = client.app.core.passwords.lane
    lane._places = client.app.admission._others._places = 100  # more than there are threads
    check = GET + b"Cookie: jwt=" + token + b"\r\nConnection: close\r\n\r\n"
    body = b'{"usernameOrEmail":"a","password":"b"}'
    login = POST + b"Content-Length: %d\r\nConnection: close\r\n\r\n" % len(body) + body
    with running(client.app) as port, ThreadPoolExecutor(8) as pool:
        leave = threading.Event()
        holders = [pool.submit(lane.run, leave.wait) for _ in range(2)]
        logins = [pool.submit(exchange, port, login) for _ in range(6)]
        assert b" 200 OK" in exchange(port, check)
        leave.set()
        assert all(holder.result() for holder in holders)
        assert all(b" 401 " in waiting.result() for waiting in logins)


def test_an_application_that_breaks_its_answer(make_app, monkeypatch):
    """What escapes the application itself is our 500, with our headers."""

    def broken(_app, _environ, _start_response):
        raise MemoryError

    monkeypatch.setattr(AuthAPI, "__call__", broken)
    with running(make_app()) as port:
        received = exchange(port, GET + b"Connection: close\r\n\r\n")

    assert_failure(received, 500, "internal_error")


def test_failures_of_the_server_as_problems(port):
    """What the parser refuses is told as problem details too, to those who prefer them."""
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


def test_urgent_data(port, monotonic):
    """TCP's urgent data is no request: the connection ends like a silent one."""
    with connected(port) as connection:
        connection.send(b"!", socket.MSG_OOB)
        assert b" 401 " in exchange(port, GET + b"Connection: close\r\n\r\n")
        monotonic.move(10)
        with suppress(ConnectionResetError):
            assert connection.recv(1) == b""


@pytest.mark.parametrize("before", [b"", GET + b"\r\n"])
def test_blank_lines_are_no_request(port, monotonic, before):
    """Blank lines do not hold a connection open, neither a new one nor one that was answered."""
    with connected(port) as slow:
        if before:
            slow.sendall(before)
            assert b" 401 " in slow.recv(65_536)
        slow.sendall(b"\r\n\r\n")
        assert b" 401 " in exchange(port, GET + b"Connection: close\r\n\r\n")
        monotonic.move(10)
        assert slow.recv(1) == b""


@pytest.mark.parametrize("message", [b"", b"GET / HT", GET + b"\r\n"])
def test_a_stop_waits_for_nothing_idle(make_app, message):
    """Neither a kept connection, nor headers that never end, hold up a stop."""
    with (
        serving(make_app(), drain=3_600) as thread,
        connected(thread.port) as connection,
    ):
        connection.sendall(message)
        assert b" 401 " in exchange(thread.port, GET + b"Connection: close\r\n\r\n")
        thread.stop()
        thread.join(60)
        assert not thread.is_alive()


@pytest.mark.parametrize(
    ("limits", "connections", "raised"),
    [
        ((1_024, 1_048_576), 1_000, [1_080]),
        ((65_536, 65_536), 1_000, []),
        ((1_024, 1_024), 944, [1_024]),
        ((200, 200), 120, [200]),
        ((64, 64), 16, [64]),
        ((1_024, resource.RLIM_INFINITY), 1_000, [1_080]),
        ((resource.RLIM_INFINITY, resource.RLIM_INFINITY), 1_000, []),
    ],
)
def test_connections_follow_the_limit_of_files(monkeypatch, limits, connections, raised):
    """The limit is raised as far as it goes, and never more connections taken than it allows."""
    done = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: limits)
    monkeypatch.setattr(resource, "setrlimit", lambda _, new: done.append(new[0]))

    assert capacity.connections(threads=16) == connections
    assert done == raised


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


def test_idle_connections(port, monotonic):
    """A kept-alive connection that is silent for too long is closed."""
    with connected(port) as idle:
        idle.sendall(GET + b"\r\n")
        assert b" 401 " in idle.recv(65_536)
        assert b" 401 " in exchange(port, GET + b"Connection: close\r\n\r\n")
        monotonic.move(61)
        assert idle.recv(1) == b""


def test_a_clock_that_is_set(make_app, monkeypatch):
    """Connections do not end because the clock of the machine is set."""
    with running(make_app(), maintenance=0) as port, connected(port) as kept:
        kept.sendall(GET + b"\r\n")
        assert b" 401 " in kept.recv(65_536)
        monkeypatch.setattr(time, "time", lambda: 1e12)
        for _ in range(3):
            assert b" 401 " in exchange(port, GET + b"Connection: close\r\n\r\n")
        kept.sendall(GET + b"\r\n")
        assert b" 401 " in kept.recv(65_536)


@pytest.mark.parametrize(
    ("memory", "passes", "warned"),
    [(47_104, 1, False), (7_168, 5, False), (7_167, 6, True), (7_168, 4, True), (35_839, 1, True)],
)
def test_cheap_hashing_is_warned_of(caplog, memory, passes, warned):
    """Hashing below each of OWASP's choices is said at the start."""
    warn_of(Settings(argon2_memory_kib=memory, argon2_time_cost=passes))

    assert bool(caplog.messages) is warned


def test_deadline_of_a_request_that_came_with_another(port, monotonic):
    """A request that begins in one packet with a whole one has its deadline too."""
    with connected(port) as slow:
        slow.sendall(GET + b"\r\n" + POST + b"Content-Length: 9\r\n\r\n{")
        received = slow.recv(65_536)
        assert b" 401 " in exchange(port, GET + b"Connection: close\r\n\r\n")
        monotonic.move(10)
        while chunk := slow.recv(65_536):
            received += chunk

    assert re.findall(rb"HTTP/1.1 (\d+)", received) == [b"401", b"408"]


def test_clients_that_vanish_after_a_bad_request(port, caplog):
    """A reset in place of reading the failure leaves no traceback in the log."""
    reset = struct.pack("ii", 1, 0)
    for _ in range(200):
        with connected(port) as connection:
            connection.sendall(b"nonsense\r\n\r\n")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)

    assert b" 401 " in exchange(port, GET + b"Connection: close\r\n\r\n")
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []
