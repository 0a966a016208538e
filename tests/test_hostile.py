"""Hostile clients: slow ones by the hundred, aborted requests, mutations of a good one."""

import random
import socket
import struct
import threading
import time
from contextlib import ExitStack, closing, contextmanager, suppress
from types import SimpleNamespace

import pytest
from conftest import connected, exchange, running, token_of

from authapi import Settings
from authapi.server import Server, channel, http_server, listen, process
from authapi.server.eviction import least_worth
from faults import mutations

LOGIN = b'{"usernameOrEmail":"crispengari","password":"crispengari"}'
GET = b"GET /user HTTP/1.1\r\nHost: x\r\n\r\n"
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
    init = Server.__init__
    monkeypatch.setattr(
        Server,
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
            deaf.sendall(GET * 220)
        for _ in range(5):
            assert asked(port, token) == b"200"


def test_connections_that_wait_to_be_opened_make_room(client, token):
    """Connections that one network opens faster than the server gets to them keep nobody out."""
    service = Server(client.app, listen(Settings(port=0)), threads=8, connections=60)
    work, service.loop.work = service.loop.work, lambda: None  # the server has no time
    port = service.socket.getsockname()[1]
    with ExitStack() as held:
        for _ in range(200):
            held.enter_context(connected(port))
        late = held.enter_context(
            socket.create_connection(("127.0.0.1", port), source_address=("127.0.0.2", 0))
        )
        late.sendall(f"GET /user HTTP/1.1\r\nHost: x\r\nCookie: jwt={token}\r\n\r\n".encode())
        for _ in range(50):
            service.turn(0)
        service.loop.work = work
        service.turn(0)
        answer = late.recv(65_536)
    service.stop()
    service.run()

    assert answer[9:12] == b"200"


@contextmanager
def serving(app, connections=1_000):
    """Serve in a thread; give the server, which the test may stop itself."""
    service = Server(app, listen(Settings(port=0)), threads=8, connections=connections)
    thread = threading.Thread(target=service.run)
    thread.start()
    try:
        yield service, thread
    finally:
        service.stop()
        thread.join()


def port_of(service):
    return service.socket.getsockname()[1]


def eventually(condition):
    """Wait until something is so."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


class Held:
    """Answers when it is told to."""

    public = True

    def __init__(self):
        self.go = threading.Event()
        self.running = 0

    def on_post(self, _req, _resp):
        self.running += 1
        self.go.wait()


def test_every_place_has_a_request_that_runs(make_app):
    """Where no connection can be closed, the next one waits, and is answered afterwards."""
    app, held = make_app(), Held()
    app.add_route("/held", held)
    with serving(app, connections=7) as (service, _), ExitStack() as stack:
        stack.callback(held.go.set)
        port = port_of(service)
        busy = []
        for number in range(5):  # two places are ours
            busy.append(stack.enter_context(connected(port)))
            busy[-1].sendall(b"POST /held HTTP/1.1\r\nHost: x\r\n\r\n")
            eventually(lambda: held.running > number)  # noqa: B023 - called at once
        eventually(lambda: not service.readable())
        waiting = stack.enter_context(connected(port))
        waiting.sendall(GET)
        assert len(service.active_channels) == 5
        held.go.set()
        assert waiting.recv(65_536)[9:12] == b"401"
        assert [connection.recv(65_536)[9:12] for connection in busy] == [b"200"] * 5


class Large:
    """Answers more than the buffers of both sides take."""

    public = True
    size = 16_000_000

    def on_get(self, _req, resp):
        resp.data = b"x" * self.size


@contextmanager
def unsent(make_app):
    """A server with an answer of which a part cannot be sent, and the client that must read it."""
    app = make_app()
    app.add_route("/large", Large())
    with serving(app) as (service, thread), connected(port_of(service)) as client:
        client.sendall(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
        eventually(
            lambda: any(
                channel.total_outbufs_len and not channel.requests
                for channel in list(service.active_channels.values())
            )
        )
        yield service, thread, client


def test_a_stop_sends_what_is_unsent(make_app):
    """An answer that is on its way when the stop comes arrives whole."""
    with unsent(make_app) as (service, thread, client):
        service.stop()
        eventually(lambda: not service.accepting)
        received = 0
        while chunk := client.recv(1_000_000):
            received += len(chunk)
        thread.join()

    assert received > Large.size


def test_a_stop_ends_although_nobody_reads(make_app, monkeypatch):
    """A client that does not read holds up a stop until the deadline, and no longer."""
    monkeypatch.setattr(http_server, "DRAIN_DEADLINE", 0)
    with unsent(make_app) as (service, thread, _):
        service.stop()
        thread.join(60)
        assert not thread.is_alive()


class Reader:
    """Reads the database when it is told to."""

    public = True

    def __init__(self, database):
        self.database = database
        self.begun, self.go, self.read = threading.Event(), threading.Event(), threading.Event()

    def on_post(self, _req, _resp):
        connection = self.database.connection
        self.begun.set()
        self.go.wait()
        assert connection.execute("SELECT 1").fetchone() == (1,)
        self.read.set()


def test_a_thread_that_runs_after_the_end(make_app, monkeypatch):
    """It keeps its connection to the database."""
    monkeypatch.setattr(http_server, "DRAIN_DEADLINE", 0)
    app, servers = make_app(), []
    monkeypatch.setattr(process, "_stop_on_signals", lambda one, **_: servers.append(one))
    reader = Reader(app.core.database)
    app.add_route("/read", reader)
    with closing(listen(Settings(port=0))) as listener:
        arguments = (app.core.settings, app, listener, lambda: None)
        thread = threading.Thread(target=process._answer, args=arguments)
        thread.start()
        with connected(listener.getsockname()[1]) as connection:
            connection.sendall(b"POST /read HTTP/1.1\r\nHost: x\r\n\r\n")
            reader.begun.wait()
            servers[0].stop()
            thread.join()
        reader.go.set()
        assert reader.read.wait(60)


def test_silent_clients_with_full_buffers(make_app, monkeypatch):
    """A connection that takes nothing for too long is closed, though its last answer is unsent."""
    with unsent(make_app) as (service, _, _):
        monkeypatch.setattr(service.adj, "channel_timeout", -3_600)
        eventually(lambda: not service.active_channels)


BAD = b"nonsense\r\n\r\n"


def test_lingering(running_on, client):
    """After a failure our side ends first, and what comes then is dropped: nothing is reset."""
    with connected(running_on(client.app)) as connection:
        connection.sendall(BAD)
        received = read_all(connection)
        for _ in range(20):
            connection.sendall(b"x" * 1_000)
            assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0

    assert received[9:12] == b"400"


def test_lingering_ends(running_on, client, monkeypatch):
    """Who goes on after a failure is hung up on: after so many bytes, or so much time."""
    port = running_on(client.app)
    with connected(port) as talking, suppress(ConnectionError):
        talking.sendall(BAD)
        while True:
            talking.sendall(b"x" * 65_536)
    with connected(port) as silent:
        silent.sendall(BAD)
        while silent.recv(65_536):
            pass
        monkeypatch.setattr(channel, "REQUEST_DEADLINE", 0)
        with suppress(ConnectionError):
            while True:
                silent.sendall(b"x")
                assert asked(port, "") == b"401"


def test_whom_to_turn_out():
    """The network that holds most, who never asked, who is silent longest; no running request."""

    def connection(host, since, *, has_asked=False):
        return SimpleNamespace(peer_networks=(host,), waits_since=since, asked=has_asked)

    one = connection("192.0.2.1", 0.0)
    crowd = [connection("192.0.2.2", float(number)) for number in range(40)]
    busy = [connection("192.0.2.2", None) for _ in range(40)]
    trusted = [connection("192.0.2.2", -1.0, has_asked=True) for _ in range(3)]

    assert least_worth([one, *trusted, *busy, *reversed(crowd)]) == crowd[: 84 // 16]
    assert least_worth([*trusted, crowd[5], crowd[6]]) == [crowd[5]]
    assert least_worth([*trusted, crowd[5]]) == trusted[:1]  # the newest may be about to ask
    assert least_worth(busy) == []


def test_who_asks_ahead_makes_room(make_app):
    """Requests that nobody waits for hold no place: what runs ends, the rest never runs."""
    app, held = make_app(), Held()
    app.add_route("/held", held)
    with serving(app, connections=7) as (service, _), ExitStack() as stack:
        stack.callback(held.go.set)
        ahead = []
        for number in range(5):
            ahead.append(stack.enter_context(connected(port_of(service))))
            ahead[-1].sendall(b"POST /held HTTP/1.1\r\nHost: x\r\n\r\n" * 2)
            eventually(lambda: held.running > number)  # noqa: B023 - called at once
        channels = list(service.active_channels.values())
        assert asked(port_of(service), "") == b"401"
        kept = sum(bool(channel.behind) for channel in channels)
        assert kept in {3, 4}  # room was made for the last of the five, and perhaps for the asker
        held.go.set()
        with suppress(ConnectionResetError):
            assert read_all(ahead[0]) == b""
        eventually(lambda: held.running == 5 + kept)
        service.stop()
        assert [read_all(one).count(b" 200 ") for one in ahead[-kept:]] == [2] * kept


def read_all(connection):
    """All that comes until the other side ends."""
    received = b""
    while chunk := connection.recv(65_536):
        received += chunk
    return received


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


def test_mutations(tmp_path):
    """A thousand mutations are each answered or hung up on; the next client is served."""
    led_to, broken = mutations.run(tmp_path, 1_000, random.Random(1), end_all=True)

    assert broken == []
    assert led_to.total() == 1_000
    assert {"200", "400", "401", "415"} <= set(led_to)


def test_clients_that_reset_with_a_request_behind(running_on, client, caplog):
    """A reset while answers wait, with a request behind that expects to continue, harms nobody."""
    answered = b"POST /" + b'"' * 4_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n"
    expects = (
        b"POST /login HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n"
    )
    port = running_on(client.app)
    for number in range(60):
        with connected(port) as gone:
            gone.sendall(answered * (1 + number % 3) + expects)
            if number % 2:
                gone.recv(1)
            gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    assert asked(port, "") == b"401"
    assert [record for record in caplog.records if record.exc_info] == []
