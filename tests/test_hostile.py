"""Hostile clients: slow ones by the hundred, aborted requests, mutations of a good one."""

import itertools
import random
import re
import socket
import struct
import threading
from contextlib import ExitStack, contextmanager, suppress
from types import SimpleNamespace

import pytest
from conftest import Clock, Serving, connected, eventually, exchange, running, serving, start

from authapi.server import Bounds
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
    """Return the status of GET /user, on a given connection or a new one."""
    text = f"GET /user HTTP/1.1\r\nHost: x\r\nCookie: jwt={token}\r\n"
    if connection is None:
        return exchange(port, f"{text}Connection: close\r\n\r\n".encode())[9:12]
    connection.sendall(f"{text}\r\n".encode())
    return connection.recv(65_536)[9:12]


@pytest.mark.parametrize("kind", SLOW)
def test_slow_clients_make_room(client, token, kind):
    """Many more slow connections than slots keep nobody out, on a new connection or an old one."""
    with running(client.app, connections=60) as port, ExitStack() as held:
        kept = held.enter_context(connected(port))
        assert asked(port, token, kept) == b"200"
        for _ in range(200):
            slow = held.enter_context(connected(port))
            slow.sendall(SLOW[kind])
        for _ in range(5):
            assert asked(port, token) == b"200"
            assert asked(port, token, kept) == b"200"


def test_clients_that_have_asked_make_room(client, token, caplog):
    """So do many connections that asked once, all from one address, as behind a proxy.

    The log has one line about it a minute.
    """
    caplog.set_level("INFO", "authapi.refusals")
    with running(client.app, connections=60) as port, ExitStack() as held:
        for _ in range(200):
            slow = held.enter_context(connected(port))
            assert asked(port, token, slow) == b"200"

    assert caplog.messages == [
        "refused error=connection_evicted network=127.0.0.1 reason=connections"
    ]


def test_clients_that_read_nothing_make_room(client, token):
    """So do those that ask and ask, and whose buffers are full of answers that they do not read."""
    with running(client.app, connections=60) as port, ExitStack() as held:
        for _ in range(200):
            deaf = held.enter_context(socket.socket())
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
            deaf.connect(("127.0.0.1", port))
            deaf.sendall(GET * 220)
        for _ in range(5):
            assert asked(port, token) == b"200"


def test_connections_that_wait_to_be_opened_make_room(client, token):
    """Connections that one network opens faster than the server gets to them keep nobody out."""
    thread = Serving(client.app, bounds=Bounds(connections=60))
    service, work = thread.server, thread.server.loop.work
    service.loop.work = lambda: None  # the server has no time
    with ExitStack() as held:
        for _ in range(200):
            held.enter_context(connected(thread.port))
        late = held.enter_context(connected(thread.port, source="127.0.0.2"))
        late.sendall(f"GET /user HTTP/1.1\r\nHost: x\r\nCookie: jwt={token}\r\n\r\n".encode())
        for _ in range(50):
            service.turn(0)
        service.loop.work = work
        service.turn(0)
        answer = late.recv(65_536)
    service.stop()
    service.run()

    assert answer[9:12] == b"200"


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
    """If no connection can be closed, the next one waits and is answered afterwards."""
    app, held = make_app(), Held()
    app.add_route("/held", held)
    with serving(app, connections=5) as thread, ExitStack() as stack:
        stack.callback(held.go.set)
        port, service = thread.port, thread.server
        busy = []
        for number in range(5):
            busy.append(stack.enter_context(connected(port)))
            busy[-1].sendall(b"POST /held HTTP/1.1\r\nHost: x\r\n\r\n")
            eventually(lambda: held.running > number)  # noqa: B023 - called at once
        eventually(lambda: not service.acceptor.has_room)
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
def unsent(make_app, **options):
    """Run a server with a partly unsent answer, and the client that must read it."""
    app = make_app()
    app.add_route("/large", Large())
    with serving(app, **options) as thread, connected(thread.port) as client:
        client.sendall(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
        eventually(
            lambda: any(
                channel.total_outbufs_len and not channel.requests
                for channel in list(thread.server.active_channels.values())
            )
        )
        yield thread, client


def test_a_stop_sends_what_is_unsent(make_app):
    """An answer that is on its way when the stop comes arrives whole."""
    with unsent(make_app) as (thread, client):
        thread.stop()
        eventually(lambda: not thread.server.acceptor.has_room)
        received = 0
        while chunk := client.recv(1_000_000):
            received += len(chunk)
        thread.join()

    assert received > Large.size


def test_a_stop_ends_although_nobody_reads(make_app):
    """A client that does not read holds up a stop until the deadline, and no longer."""
    with unsent(make_app, drain=0) as (thread, _):
        thread.stop()
        thread.join(60)
        assert not thread.is_alive()


AFTER_THE_END = """
import threading
from authapi import Settings, create_app
from authapi.server import Bounds, process, serve

process.DEFAULT = Bounds(drain=0)
go, done = threading.Event(), threading.Event()

class Reader:
    public = True

    def __init__(self, database):
        self.database = database

    def on_post(self, _req, _resp):
        connection = self.database.connection
        print("begun", flush=True)
        go.wait()
        print(connection.execute("SELECT 'read'").fetchone()[0], flush=True)
        done.set()

def create(settings):
    app = create_app(settings)
    app.add_route("/read", Reader(app.core.database))
    return app

serve(Settings.from_env(), create)
go.set()
done.wait(60)
"""


def test_a_thread_that_runs_after_the_end(tmp_path):
    """It keeps its connection to the database."""
    service = start(tmp_path, run=("-c", AFTER_THE_END))
    port = int(re.search(r":(\d+),", service.stdout.readline())[1])
    with connected(port) as connection:
        connection.sendall(b"POST /read HTTP/1.1\r\nHost: x\r\n\r\n")
        assert service.stdout.readline() == "begun\n"
        service.terminate()
        output, _ = service.communicate()

    assert (output, service.returncode) == ("read\n", 0)


def test_silent_clients_with_full_buffers(make_app):
    """A connection that takes nothing for too long is closed, though its last answer is unsent."""
    clock = Clock()
    with unsent(make_app, clock=clock) as (thread, _):
        eventually(lambda: clock.move(61) or not thread.server.active_channels)


class Endless:
    """Answers without an end."""

    public = True

    def on_post(self, _req, resp):
        resp.stream = itertools.repeat(b"x" * 1_000_000)


def test_a_client_that_reads_nothing_of_an_endless_answer(make_app):
    """It keeps a thread until it has taken nothing for too long."""
    app, clock = make_app(threads=2, hash_slots=1), Clock()
    app.add_route("/endless", Endless())
    with serving(app, clock) as thread, ExitStack() as stack:
        for _ in range(2):
            deaf = stack.enter_context(connected(thread.port))
            deaf.sendall(b"POST /endless HTTP/1.1\r\nHost: x\r\n\r\n")
        eventually(lambda: thread.server.loop.unsent > 32_000_000)
        eventually(lambda: clock.move(61) or not thread.server.active_channels)
        wait = b"POST /logout HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        assert exchange(thread.port, wait)[9:12] == b"200"


BAD = b"nonsense\r\n\r\n"


def test_lingering(client):
    """After a failure our side ends first, and what comes then is dropped: nothing is reset."""
    with running(client.app) as port, connected(port) as connection:
        connection.sendall(BAD)
        received = read_all(connection)
        for _ in range(20):
            connection.sendall(b"x" * 1_000)
            assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0

    assert received[9:12] == b"400"


def test_lingering_ends(client):
    """A client that goes on after a failure is cut off after so many bytes, or so much time."""
    clock = Clock()
    with running(client.app, clock=clock) as port:
        with connected(port) as talking, suppress(ConnectionError):
            talking.sendall(BAD)
            while True:
                talking.sendall(b"x" * 65_536)
        with connected(port) as silent:
            silent.sendall(BAD)
            read_all(silent)
            clock.move(10)
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
    with serving(app, connections=5) as thread, ExitStack() as stack:
        stack.callback(held.go.set)
        port, service = thread.port, thread.server
        ahead = []
        for number in range(5):
            ahead.append(stack.enter_context(connected(port)))
            ahead[-1].sendall(b"POST /held HTTP/1.1\r\nHost: x\r\n\r\n" * 2)
            eventually(lambda: held.running > number)  # noqa: B023 - called at once
        channels = list(service.active_channels.values())
        assert asked(port, "") == b"401"
        kept = sum(bool(channel.behind) for channel in channels)
        assert kept in {3, 4}  # room was made for the last of the five, and perhaps for the asker
        held.go.set()
        with suppress(ConnectionResetError):
            assert read_all(ahead[0]) == b""
        eventually(lambda: held.running == 5 + kept)
        service.stop()
        assert [read_all(one).count(b" 200 ") for one in ahead[-kept:]] == [2] * kept


def read_all(connection):
    """Read until the other side ends."""
    received = b""
    while chunk := connection.recv(65_536):
        received += chunk
    return received


@pytest.mark.parametrize("cut", [0, 1, 20, 60, len(GOOD) - 1, len(GOOD), -1])
@pytest.mark.parametrize("how", ["reset", "half-closed", "closed"])
def test_aborted_requests(client, token, caplog, cut, how):
    """Wherever a client gives up, and however, the next one is served, and nothing fails."""
    text = GOOD * 3 if cut == -1 else GOOD[:cut]
    with running(client.app) as port:
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


def test_clients_that_reset_with_a_request_behind(client, caplog):
    """A reset while answers wait, with a request behind that expects to continue, harms nobody."""
    answered = b"POST /" + b'"' * 4_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n"
    expects = (
        b"POST /login HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n"
    )
    with running(client.app) as port:
        for number in range(60):
            with connected(port) as gone:
                gone.sendall(answered * (1 + number % 3) + expects)
                if number % 2:
                    gone.recv(1)
                gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)

        assert asked(port, "") == b"401"
    assert [record for record in caplog.records if record.exc_info] == []
