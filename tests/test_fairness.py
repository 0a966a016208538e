"""Fair turns between networks: in the queue, in the loop, in the threads, and in what is kept."""

import socket
import threading
from contextlib import ExitStack
from types import SimpleNamespace

import pytest
from conftest import eventually, running, serving, token_of
from hypothesis import given
from hypothesis import strategies as st

from authapi.server.eviction import heaviest
from authapi.server.fairness import FairQueue
from authapi.server.parser import MOST_FIELDS
from authapi.server.pool import Pool


def connect(port, host):
    """Open a connection from a loopback address; each address counts as a network."""
    return socket.create_connection(("127.0.0.1", port), timeout=30, source_address=(host, 0))


def status_of(connection):
    """Return the status of the next answer."""
    return connection.makefile("rb").readline().split()[1]


def drained(queue):
    items = []
    while (item := queue.get()) is not None:
        items.append(item)
    return items


def test_networks_take_turns():
    """A network with one item waits for one item of another, however many that has."""
    queue = FairQueue()
    for number in range(5):
        queue.put(("a",), f"a{number}")
    queue.put(("b",), "b0")

    assert drained(queue) == ["a0", "b0", "a1", "a2", "a3", "a4"]
    assert not queue


def test_parts_of_a_network_share_its_turns():
    """A network of many networks has one turn, which those within it share."""
    queue = FairQueue()
    for number in range(3):
        queue.put(("wide", f"part {number}"), number)
    queue.put(("other", "part"), "other")
    queue.put(("wide", "part 0"), 3)

    assert drained(queue) == [0, "other", 1, 2, 3]


def test_who_is_passed_over_keeps_the_turn():
    """Networks that may not have a turn now keep theirs, in their order."""
    queue = FairQueue()
    for name in ("a", "b", "a"):
        queue.put((name,), name)

    assert queue.get({"a"}) == "b"
    assert queue.get({"a"}) is None
    assert drained(queue) == ["a", "a"]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("xy"))))
def test_nothing_is_lost(keys):
    """Each item leaves once, those of one network in their order."""
    queue = FairQueue()
    for number, (wide, narrow) in enumerate(keys):
        queue.put((wide, wide + narrow), (wide + narrow, number))
    out = drained(queue)

    assert sorted(number for _, number in out) == list(range(len(keys)))
    for name in {name for name, _ in out}:
        numbers = [number for each, number in out if each == name]
        assert numbers == sorted(numbers)


def test_one_network_leaves_threads_free():
    """One network has at most three quarters of the threads; another finds one of the rest."""
    go, ran = threading.Event(), threading.Event()
    started = threading.Semaphore(0)

    def job(network, run):
        return SimpleNamespace(networks=(network,), run=run, cancel=lambda: None)

    def hold():
        started.release()
        go.wait()

    pool = Pool(4)
    for _ in range(8):
        pool.add(job("a", hold))
    for _ in range(3):
        assert started.acquire(timeout=30)
    pool.add(job("b", ran.set))

    assert ran.wait(30)
    assert not started.acquire(blocking=False)
    go.set()
    eventually(lambda: pool.shutdown(0) or not pool.threads)


class Recorder:
    """A quick resource that tells who asks, and can be held."""

    public = quick = True

    def __init__(self):
        self.go, self.held, self.asked = threading.Event(), threading.Event(), []

    def on_get(self, req, resp):
        if req.get_param("hold"):
            self.held.set()
            self.go.wait()
        self.asked.append(req.remote_addr)
        resp.media = {}


def test_the_loop_serves_networks_in_turns(make_app):
    """Forty requests of one network that came first delay another's by a turn."""
    app, recorder = make_app(), Recorder()
    app.add_route("/asked", recorder)
    get = b"GET /asked%s HTTP/1.1\r\nHost: x\r\n\r\n"
    with running(app) as port, ExitStack() as stack:
        crowd = [stack.enter_context(connect(port, "127.0.0.2")) for _ in range(40)]
        other = stack.enter_context(connect(port, "127.0.0.3"))
        for connection in (*crowd, other):  # each is known to the loop before it is held
            connection.sendall(get % b"")
            assert status_of(connection) == b"200"
        recorder.asked.clear()
        holder = stack.enter_context(connect(port, "127.0.0.4"))
        holder.sendall(get % b"?hold=1")
        assert recorder.held.wait(30)
        for connection in (*crowd, other):
            connection.sendall(get % b"")
        recorder.go.set()
        for connection in (*crowd, other):
            assert status_of(connection) == b"200"

    assert len(recorder.asked) == 42
    assert recorder.asked.index("127.0.0.3") <= 4


def test_new_connections_take_turns(make_app):
    """A new connection is served in its network's turn, however many of another came before it."""
    app, recorder = make_app(), Recorder()
    app.add_route("/asked", recorder)
    get = b"GET /asked%s HTTP/1.1\r\nHost: x\r\n\r\n"
    with running(app, accepting=60) as port, ExitStack() as stack:
        holder = stack.enter_context(connect(port, "127.0.0.4"))
        holder.sendall(get % b"?hold=1")
        assert recorder.held.wait(30)
        waiting = [stack.enter_context(connect(port, "127.0.0.2")) for _ in range(40)]
        waiting.append(stack.enter_context(connect(port, "127.0.0.3")))
        for connection in waiting:
            connection.sendall(get % b"")
        recorder.go.set()
        for connection in waiting:
            assert status_of(connection) == b"200"

    assert recorder.asked.index("127.0.0.3") <= 4


def test_a_fault_of_ours_ends_one_connection(make_app, caplog):
    """A failure in the loop is logged and ends its connection; the next one is served."""
    get = b"GET /user HTTP/1.1\r\nHost: x\r\n\r\n"
    with serving(make_app()) as thread, connect(thread.port, "127.0.0.1") as kept:
        add_task = thread.server.add_task

        def fail(channel):
            if channel.requests[0].path == "/boom":
                raise ValueError("boom")
            add_task(channel)

        thread.server.add_task = fail
        with connect(thread.port, "127.0.0.1") as failing:
            failing.sendall(get.replace(b"/user", b"/boom"))
            assert failing.recv(1) == b""
        kept.sendall(get)
        assert status_of(kept) == b"401"

    assert [each.levelname for each in caplog.records if each.exc_info] == ["ERROR"]


@pytest.mark.parametrize(("fields", "status"), [(MOST_FIELDS, b"401"), (MOST_FIELDS + 1, b"431")])
def test_header_fields(make_app, fields, status):
    """100 header fields are read, and one more is refused, wherever the block is cut."""
    block = b"Host: x\r\n" + b"a:\r\n" * (fields - 1)
    with running(make_app()) as port, connect(port, "127.0.0.1") as connection:
        connection.sendall(b"GET /user HTTP/1.1\r\n" + block[:50])
        connection.sendall(block[50:] + b"\r\n")

        assert status_of(connection) == status


@pytest.mark.parametrize(
    "framing",
    [
        *(b"1;" + b"a" * 9_000 + b"\r\n", b"1\r\nx\r\n" * 2_000, b"0\r\n" + b"a: b\r\n" * 2_000),
        *(b"10001\r\n", b"f" * 16 + b"\r\n"),
    ],
)
def test_framing_of_a_body(make_app, framing):
    """Extensions, tiny chunks and trailers are bounded, and no chunk announces too much: 413."""
    head = b"POST /login HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    with running(make_app()) as port, connect(port, "127.0.0.1") as connection:
        connection.sendall(head + framing)

        assert status_of(connection) == b"413"


def test_what_is_kept_is_bounded(make_app):
    """If connections take too much memory, those of the greediest network end."""
    body = b"POST /login HTTP/1.1\r\nHost: x\r\nContent-Length: 60000\r\n\r\n" + b"{" * 50_000
    with serving(make_app(), kept=200_000) as thread, ExitStack() as stack:
        modest = stack.enter_context(connect(thread.port, "127.0.0.3"))
        modest.sendall(b"POST /login HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{")
        for _ in range(12):
            greedy = stack.enter_context(connect(thread.port, "127.0.0.2"))
            greedy.sendall(body)
        eventually(lambda: len(thread.server.active_channels) < 8)
        assert thread.server.loop.kept <= 200_000 + 60_000
        modest.sendall(b"}")
        assert status_of(modest) == b"415"


class Large:
    """Answers more than the buffers of both sides take."""

    public = True
    size = 16_000_000

    def on_get(self, _req, resp):
        resp.data = b"x" * self.size


def test_what_is_unsent_is_bounded(make_app, caplog):
    """If unread answers take too much, connections of the greediest network end."""
    app = make_app()
    app.add_route("/large", Large())
    caplog.set_level("INFO", "authapi.refusals")
    with serving(app, unsent=4 * Large.size) as thread, ExitStack() as stack:
        other = stack.enter_context(connect(thread.port, "127.0.0.3"))
        for _ in range(6):
            deaf = stack.enter_context(connect(thread.port, "127.0.0.2"))
            deaf.sendall(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
        eventually(lambda: "reason=unread_answers" in caplog.text)
        eventually(lambda: thread.server.loop.unsent <= 4 * Large.size)
        other.sendall(b"GET /user HTTP/1.1\r\nHost: x\r\n\r\n")
        assert status_of(other) == b"401"

    assert caplog.messages[0] == (
        "refused error=connection_evicted network=127.0.0.2 reason=unread_answers"
    )


def test_whose_connections_end():
    """The network that makes us keep most goes first, and of it what holds most; none that runs."""

    def connection(network, kept, *, waits=True):
        return SimpleNamespace(
            peer_networks=(network,), kept=kept, waits_since=0.0 if waits else None
        )

    one, running_one = connection("b", 90), connection("a", 80, waits=False)
    large, small = connection("a", 70), connection("a", 10)

    assert heaviest([one, running_one, large, small], 1) == [large]
    assert heaviest([one, running_one, large, small], 75) == [large, small]
    assert heaviest([one, running_one, large, small], 100) == [large, small, one]
    assert heaviest([one, running_one, large, small], 0) == []


def test_a_session_check_beside_a_flood(make_client):
    """Requests of one network that never end take no thread from another network's requests."""
    client = make_client(rate_limits="off", threads=4)
    token = token_of(client.register())
    go = threading.Event()

    class Held:
        public = True

        def on_post(self, _req, resp):
            go.wait()
            resp.media = {}

    client.app.add_route("/held", Held())
    with running(client.app) as port, ExitStack() as stack:
        for _ in range(12):
            held = stack.enter_context(connect(port, "127.0.0.2"))
            held.sendall(b"POST /held HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
        other = stack.enter_context(connect(port, "127.0.0.3"))
        cookie = f"Cookie: jwt={token}\r\n".encode()
        other.sendall(b"GET /user HTTP/1.1\r\nHost: x\r\n" + cookie + b"\r\n")
        assert status_of(other) == b"200"
        other.sendall(b"GET /sessions HTTP/1.1\r\nHost: x\r\n" + cookie + b"\r\n")
        assert status_of(other) == b"200"
        go.set()


class Exits:
    """Raises what no error handler takes."""

    public = quick = True

    def on_get(self, _req, _resp):
        raise SystemExit

    def on_post(self, _req, _resp):
        raise SystemExit


@pytest.mark.parametrize("method", [b"GET", b"POST"])
def test_an_application_that_exits(make_app, method, caplog):
    """A resource that raises SystemExit ends its connection, in the loop and in a thread."""
    app = make_app()
    app.add_route("/exits", Exits())
    with running(app) as port:
        for _ in range(2):
            with connect(port, "127.0.0.1") as connection:
                connection.sendall(method + b" /exits HTTP/1.1\r\nHost: x\r\n\r\n")
                assert connection.recv(1) == b""

    assert [each.levelname for each in caplog.records if each.exc_info] == ["ERROR"] * 2
