"""Hostile clients: slow ones by the hundred, aborted requests, mutations of a good one."""

import random
import re
import socket
import struct
from contextlib import ExitStack
from types import SimpleNamespace

import pytest
from conftest import USER, connected, exchange, process, request, running, token_of

from authapi import server
from authapi.crowding import least_worth

LOGIN = b'{"usernameOrEmail":"crispengari","password":"crispengari"}'
GOOD = (
    b"POST /login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    b"Content-Length: %d\r\n\r\n%s" % (len(LOGIN), LOGIN)
)
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: a close resets
SLOW = {
    "silent": b"",
    "header": b"GET /user HTTP/1.1\r\nHost: x\r\nX-",
    "body": GOOD[:-10],
}


def asked(port, token, connection=None):
    """The status of GET /user, on a connection of its own unless one is given."""
    text = f"GET /user HTTP/1.1\r\nHost: x\r\nCookie: jwt={token}\r\n"
    if connection is None:
        return exchange(port, f"{text}Connection: close\r\n\r\n".encode())[9:12]
    connection.sendall(f"{text}\r\n".encode())
    return connection.recv(65_536)[9:12]


@pytest.fixture(name="running_on")
def _running_on(make_app):
    """What serves an application, and stops before that is closed."""
    assert make_app
    with ExitStack() as stack:
        yield lambda app: stack.enter_context(running(app))


@pytest.fixture(name="small")
def _small(monkeypatch):
    """A service with places for 60 connections."""
    init = server.Server.__init__
    monkeypatch.setattr(
        server.Server,
        "__init__",
        lambda self, app, listener, threads: init(self, app, listener, threads, 60),
    )


@pytest.mark.parametrize("kind", SLOW)
def test_slow_clients_make_room(small, client, running_on, token, kind):
    """Many more slow connections than places keep nobody out, on a new connection or an old one."""
    port = running_on(client.app)
    with ExitStack() as held:
        kept = held.enter_context(connected(port))
        assert asked(port, token, kept) == b"200"
        for _ in range(200):
            slow = held.enter_context(connected(port))
            slow.sendall(SLOW[kind])
        for _ in range(5):
            assert asked(port, token) == b"200"
            assert asked(port, token, kept) == b"200"


def test_clients_that_have_asked_make_room(small, client, running_on, token):
    """So do many connections that asked once, all from one address, as behind a proxy."""
    port = running_on(client.app)
    with ExitStack() as held:
        for _ in range(200):
            slow = held.enter_context(connected(port))
            assert asked(port, token, slow) == b"200"


def test_clients_that_read_nothing_make_room(small, client, running_on, token):
    """So do those that ask and ask, and whose buffers are full of answers that they do not read."""
    port = running_on(client.app)
    with ExitStack() as held:
        for _ in range(200):
            deaf = held.enter_context(socket.socket())
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
            deaf.connect(("127.0.0.1", port))
            deaf.sendall(b"GET /user HTTP/1.1\r\nHost: x\r\n\r\n" * 220)
        for _ in range(5):
            assert asked(port, token) == b"200"


def test_whom_to_turn_out():
    """The network that holds most, who never asked, who is silent longest; no running request."""

    def connection(host, since, *, has_asked=False):
        return SimpleNamespace(host=host, waits_since=since, asked=has_asked)

    one = connection("192.0.2.1", 0.0)
    crowd = [connection("192.0.2.2", float(number)) for number in range(40)]
    busy = [connection("192.0.2.2", None) for _ in range(40)]
    trusted = [connection("192.0.2.2", -1.0, has_asked=True) for _ in range(3)]

    assert least_worth([one, *trusted, *busy, *reversed(crowd)]) == crowd[: 84 // 16]
    assert least_worth([*trusted, crowd[5], crowd[6]]) == [crowd[5]]
    assert least_worth([*trusted, crowd[5]]) == trusted[:1]  # the newest may be about to ask
    assert least_worth(busy) == []


@pytest.mark.parametrize("cut", [0, 1, 20, 60, len(GOOD) - 1, len(GOOD), -1])
@pytest.mark.parametrize("how", ["reset", "half-closed", "closed"])
def test_aborted_requests(running_on, client, caplog, cut, how):
    """Wherever a client gives up, and however, the next one is served, and nothing fails."""
    port, token = running_on(client.app), token_of(client.register())
    text = GOOD * 3 if cut == -1 else GOOD[:cut]
    for _ in range(3):
        with connected(port) as connection:
            connection.sendall(text)
            if how == "reset":
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            elif how == "half-closed":
                connection.shutdown(socket.SHUT_WR)

    assert asked(port, token) == b"200"
    assert [record for record in caplog.records if record.levelname in {"ERROR", "CRITICAL"}] == []


def mutated(rng):
    """The good request with some bytes flipped, cut or doubled."""
    text = bytearray(GOOD)
    for _ in range(rng.randint(1, 4)):
        begin = rng.randrange(len(text))
        end = min(len(text), begin + rng.randint(1, 20))
        match rng.randrange(3):
            case 0:
                text[begin] ^= 1 << rng.randrange(8)
            case 1:
                del text[begin:end]
            case 2:
                text[begin:begin] = text[begin:end]
        text = text or bytearray(b"x")
    return bytes(text)


def test_mutations(tmp_path):
    """A thousand mutations are each answered or hung up on; the next client is served."""
    rng = random.Random(1)
    with process(tmp_path, AUTHAPI_RATE_LIMITS="off") as (service, url):
        port = int(url.rpartition(":")[2])
        request(f"{url}/register", USER)
        statuses = set()
        for number in range(1_000):
            with connected(port) as connection:
                connection.sendall(mutated(rng))
                connection.shutdown(socket.SHUT_WR)
                statuses.add(connection.recv(65_536)[9:12])
            if number % 50 == 0:
                login = {"usernameOrEmail": USER["username"], "password": USER["password"]}
                assert request(f"{url}/login", login)[0] == 200
        service.terminate()
        _, log = service.communicate(timeout=60)

    assert service.returncode == 0
    assert not re.search(r"Traceback| ERROR ", log)
    assert {b"400", b"401", b"200"} <= statuses
    assert not {status for status in statuses if status[:1] == b"5" and status != b"501"}
