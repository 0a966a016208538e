"""Admission: no network takes every place on the hash lane, and known users have their own."""

import json
import select
import threading
from contextlib import ExitStack, closing, contextmanager

import pytest
from conftest import OTHER, USER, connected, cookie_of, eventually, running, serving, token_of

from authapi.admission import Admission
from authapi.errors import Overloaded
from authapi.passwords.hash_lane import Lane

PLACES = 8  # of a service with 16 threads
PATIENCE = 30  # seconds until a test gives up
FLOOD = "2001:db8:0:{:x}00::1"  # many /56 of one /48


def login(address, cookie="", **fields):
    """Return the bytes of a login that comes through a proxy from an address."""
    body = json.dumps({"usernameOrEmail": USER["username"], "password": USER["password"], **fields})
    head = (
        "POST /login HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        f"X-Forwarded-For: {address}\r\nCookie: {cookie}\r\n\r\n"
    )
    return (head + body).encode()


def answer_on(connection):
    """Return the status and the error of the answer, when it has come."""
    received = b"".join(iter(lambda: connection.recv(65_536), b""))
    head, _, body = received.partition(b"\r\n\r\n")
    return int(head.split(b" ")[1]), json.loads(body).get("error", "")


class Hashing:
    """A service on a socket whose requests that hash wait until `leave` is called."""

    def __init__(self, client, port, leave):
        self.client, self._port, self._leave = client, port, leave
        self._connections = ExitStack()

    def send(self, request):
        """Send a request on a connection of its own."""
        connection = self._connections.enter_context(connected(self._port))
        connection.sendall(request)
        return connection

    def finish(self, *connections):
        """Let every hash end; give the answers."""
        self._leave()
        return [answer_on(connection) for connection in connections]

    def close(self):
        self._leave()
        self._connections.close()


class HeldLane(Lane):
    """A lane in which each hash waits for a turn that the test gives."""

    def __init__(self, slots=2, places=PLACES):
        super().__init__(slots, places, nice=0)
        self.turns = threading.Semaphore(0)
        self.callers = set()

    def run(self, task, *arguments):
        self.callers.add(threading.get_ident())
        return super().run(self._held, task, *arguments)

    def _held(self, task, *arguments):
        self.turns.acquire(timeout=PATIENCE)
        return task(*arguments)


@pytest.fixture(name="hashing")
def _hashing(make_client):
    """Run a service that hashes nothing during the test, or until `finish`."""
    client, lane = make_client(trusted_proxy="127.0.0.1"), HeldLane()
    client.device = cookie_of(client.register(), "device")
    client.other_device = cookie_of(client.register(**OTHER), "device")
    client.app.core.passwords.lane = lane
    with running(client.app) as port:
        hashing = Hashing(client, port, lambda: lane.turns.release(10_000))
        yield hashing
        hashing.close()
    lane.close()


def flood(hashing, address="10.0.0.1", count=12):
    """Send logins until a network has no place left; give the connections that have one.

    Those without are answered at once.
    """
    connections = [hashing.send(login(address.format(number))) for number in range(count)]
    answered = eventually(
        lambda: len(found := select.select(connections, [], [])[0]) == count - PLACES // 2 and found
    )
    assert {answer_on(connection) for connection in answered} == {(503, "overloaded")}
    return [connection for connection in connections if connection not in answered]


@pytest.mark.parametrize("address", ["10.0.0.1", FLOOD])
def test_a_network_has_half_of_the_places(hashing, address):
    """Whoever floods from one network, in however many parts, leaves places for all others."""
    taken = flood(hashing, address)
    others = [hashing.send(login(address)) for address in ("192.0.2.1", "2001:db8:1::1")]

    assert hashing.finish(*taken, *others) == [(200, "")] * 6


def test_known_browsers_have_places(hashing):
    """A browser that is known gets in from the network that is flooded, and from any other."""
    flood(hashing)
    for number in range(2):
        hashing.send(login(f"10.0.1.{number}"))
    assert answer_on(hashing.send(login("192.0.2.1"))) == (503, "overloaded")

    cookies = [hashing.client.device, hashing.client.other_device]
    known = [
        hashing.send(login("10.0.0.1", f"device={cookies[0]}")),
        hashing.send(
            login(
                "192.0.2.1",
                f"device={cookies[1]}",
                usernameOrEmail=OTHER["username"],
                password=OTHER["password"],
            )
        ),
    ]

    assert hashing.finish(*known) == [(200, "")] * 2


def test_one_known_user_leaves_places_for_another(hashing):
    """A flood with a cookie of the attacker's own takes no place of other known users."""
    flood(hashing)
    for number in range(2):
        hashing.send(login(f"10.0.1.{number}"))
    mine = f"device={hashing.client.device}"
    hashing.send(login("10.0.0.1", mine))
    assert answer_on(hashing.send(login("10.0.0.1", mine))) == (503, "overloaded")

    another = login(
        "10.0.0.1",
        f"device={hashing.client.other_device}",
        usernameOrEmail=OTHER["username"],
        password=OTHER["password"],
    )
    assert hashing.finish(hashing.send(another)) == [(200, "")]


def test_planted_cookies(hashing):
    """A cookie that another host of the domain planted makes no known browser unknown."""
    flood(hashing)
    for number in range(2):
        hashing.send(login(f"10.0.1.{number}"))
    others, mine = f"device={hashing.client.other_device}", f"device={hashing.client.device}"
    hashing.send(login("10.0.0.1", others))

    assert hashing.finish(hashing.send(login("10.0.0.1", f"{others}; {mine}"))) == [(200, "")]


@pytest.mark.parametrize("cookie", ["", "x", "a.b.c", "jwt"])
def test_other_cookies_make_nobody_known(hashing, cookie):
    """Only a device cookie that the service signed makes a browser known."""
    flood(hashing)
    for number in range(2):
        hashing.send(login(f"10.0.1.{number}"))

    assert answer_on(hashing.send(login("192.0.2.1", f"device={cookie}"))) == (503, "overloaded")


ENDINGS = [
    (login("10.0.0.1"), (200, "")),
    (login("10.0.0.1", password="wrong"), (401, "invalid_credentials")),
    (login("10.0.0.1")[:-1] + b"!", (400, "malformed_json")),
    (login("10.0.0.1", usernameOrEmail=1), (422, "validation_failed")),
]


@pytest.mark.parametrize(("request_", "expected"), ENDINGS)
def test_places_are_free_again(hashing, request_, expected):
    """A place ends with its request, in whatever way."""
    hashing.finish(*flood(hashing))
    for _ in range(PLACES):
        assert hashing.finish(hashing.send(request_)) == [expected]
        hashing.client.query("DELETE FROM limits")


class Waiting:
    """A resource of an application's own that keeps a thread until the test says."""

    public = True

    def __init__(self):
        self.running, self.leave = [], threading.Event()

    def on_post(self, req, resp):
        self.running.append(req)
        self.leave.wait(PATIENCE)


@contextmanager
def held_threads(client):
    """Serve, with every thread held by a request until `leave` is called; give what sends."""
    waiting = Waiting()
    client.app.add_route("/wait", waiting)
    wait = b"POST /wait HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
    with running(client.app) as port, ExitStack() as connections:
        hashing = Hashing(client, port, waiting.leave.set)
        connections.callback(hashing.close)
        for source in ("127.0.0.2", "127.0.0.3"):  # one network leaves a quarter of the threads
            for _ in range(client.app.core.settings.threads):
                connections.enter_context(connected(port, source)).sendall(wait)
        eventually(lambda: len(waiting.running) == client.app.core.settings.threads)
        yield hashing


def test_places_of_those_who_leave(client):
    """A client that is gone before a thread could answer it gives its place back."""
    with held_threads(client) as hashing:
        for leaving in flood(hashing):
            leaving.close()
        hashing.finish()
        eventually(lambda: len(admit(client.app.admission, PLACES, "127.0.0.1")) == PLACES // 2)


def test_turns(make_client):
    """A login from elsewhere waits for one hash of a network that floods, and not for all."""
    client = make_client(trusted_proxy="127.0.0.1")
    lane = HeldLane(slots=1, places=PLACES // 2 + 1)
    client.register()
    client.app.core.passwords.lane = lane
    with running(client.app) as port, closing(lane), ExitStack() as connections:
        hashing = Hashing(client, port, lambda: lane.turns.release(PLACES))
        connections.callback(hashing.close)
        flood(hashing)
        newcomer = hashing.send(login("192.0.2.1"))
        eventually(lambda: lane.is_full)
        lane.turns.release(3)  # the one that runs, the next of the flood, the newcomer's

        assert answer_on(newcomer) == (200, "")


def admit(admission, count, network, *users):
    """Take places until there is none, or so many; give them."""
    places = []
    while len(places) < count:
        try:
            places.append(admission.admit(network, users))
        except Overloaded:
            break
    return places


@pytest.mark.parametrize(
    ("places", "of_one", "of_all", "known"),
    [(1, 1, 1, 0), (2, 2, 2, 0), (4, 2, 3, 1), (8, 4, 6, 2), (16, 8, 12, 4), (128, 64, 96, 32)],
)
def test_shares(places, of_one, of_all, known):
    """One network has half of the places, all strangers three quarters, known users the rest."""
    admission = Admission(places)
    held = [admit(admission, places, "10.0.0.1")]
    assert len(held[0]) == of_one

    held += [admit(admission, places, f"10.0.1.{number}") for number in range(places)]
    assert sum(map(len, held)) == of_all

    users = [admit(admission, places, "10.0.0.1", f"{number}") for number in range(places)]
    assert sum(map(len, users)) == known
    assert len(users[0]) == (known + 1) // 2


def test_a_flood_makes_room():
    """A network that holds many places gets none back while others want some."""
    admission = Admission(PLACES)
    flood = admit(admission, PLACES, "10.0.0.1")
    others = [admission.admit(f"10.0.1.{number}") for number in range(2)]
    for _ in range(2):
        flood.pop().release()
        with pytest.raises(Overloaded):
            admission.admit("10.0.0.1")

    assert admission.admit("10.0.2.1")
    assert others


def test_places_that_are_dropped():
    """A place that nobody holds any more is free, without being released."""
    admission = Admission(4)
    for _ in range(100):
        assert admission.admit("10.0.0.1")


@contextmanager
def full(client):
    """Every place is taken for the block, but those of known users."""
    admission = client.app.admission
    places = [admit(admission, PLACES, f"10.1.0.{number}") for number in range(PLACES)]
    yield
    for place in (place for each in places for place in each):
        place.release()


def test_the_loop_refuses(make_client):
    """A login that finds no place is refused without a thread."""
    client = make_client(threads=2, hash_slots=1)
    with held_threads(client) as hashing, full(client):
        connection = hashing.send(login("x"))
        received = b"".join(iter(lambda: connection.recv(65_536), b""))

    assert received.startswith(b"HTTP/1.1 503 ")
    assert b'"error":"overloaded"' in received
    assert b"Retry-After: 1\r\n" in received


@pytest.mark.parametrize("path", ["/login", "/register"])
def test_the_loop_refuses_what_is_over_a_limit(make_client, path):
    """A flood from a network that has no try left takes no thread, no place and no write."""
    limits = {"login_network_limit": "1/hour", "registration_limit": "1/hour"}
    client = make_client(threads=2, hash_slots=1, **limits)
    client.post("/register", USER, remote_addr="127.0.0.1")
    client.log_in(remote_addr="127.0.0.1")
    before = client.query("SELECT * FROM limits")

    with held_threads(client) as hashing:
        refused = hashing.send(login("x").replace(b"/login", path.encode()))
        assert answer_on(refused) == (429, "too_many_requests")
    assert client.query("SELECT * FROM limits") == before


def test_closed_registration_takes_no_place(make_client):
    """It is refused as such, also where there is no place."""
    client = make_client(registration="closed")
    with full(client):
        assert client.register().json["error"] == "registration_closed"


HASHING = [
    ("POST", "/login"),
    ("POST", "/register"),
    ("PUT", "/user/password"),
    ("POST", "/sessions/reauthenticate"),
]


@pytest.mark.parametrize(("method", "path"), HASHING)
def test_whatever_hashes_needs_a_place(make_client, method, path):
    """All that hashes is refused before anything of it is read; nothing else is."""
    client = make_client(threads=2, hash_slots=1)
    token = token_of(client.register())
    with full(client):
        assert client.request_as(token, method, path).json["error"] == "overloaded"
        assert client.app.inline.takes(method, path)
        assert client.request_as(token, "OPTIONS", path).status_code == 200
        assert client.get_as(token).status_code == 200
        assert client.request_as(token, "POST", "/logout").status_code == 200


@pytest.mark.parametrize(("method", "path"), HASHING[2:])
def test_sessions_are_known(client, token, method, path):
    """Whoever has a session finds a place that strangers leave; whoever has none is told so."""
    with full(client):
        assert client.request_as(token, method, path).status_code == 415
        assert client.simulate_request(method, path).status_code == 401


class Costly:
    """A resource of an application's own that hashes."""

    public = hashes = True

    def on_post(self, req, resp):
        resp.media = {}


def test_resources_of_an_application(client):
    """An application's own resource that says `hashes` has a place, or is refused."""
    client.app.add_route("/costly", Costly())
    for _ in range(2 * PLACES):
        assert client.simulate_post("/costly").status_code == 200
    with full(client):
        assert client.simulate_post("/costly").status_code == 503


def test_the_log_tells_of_it(client, caplog):
    """A minute has one line at info for the logins of a network that find no place."""
    caplog.set_level("INFO", "authapi.refusals")
    with full(client):
        for _ in range(3):
            client.log_in(remote_addr="192.0.2.7")

    assert [line.strip() for line in caplog.messages] == [
        "refused error=overloaded network=192.0.2.7"
    ]


def test_the_loop_never_hashes(client):
    """A login that has a place is handed over to a thread."""
    client.register()
    lane = client.app.core.passwords.lane = HeldLane()
    lane.turns.release(PLACES)
    with serving(client.app) as loop, closing(lane), connected(loop.port) as connection:
        connection.sendall(login("x"))
        assert answer_on(connection) == (200, "")

    assert len(lane.callers) == 1
    assert loop.ident not in lane.callers
