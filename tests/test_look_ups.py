"""Session checks on a PostgreSQL server, which the server's loop sends in batches and awaits."""

import os
import signal
import socket
import threading
from contextlib import ExitStack, closing, contextmanager
from http.client import HTTPConnection

import pytest
from cluster import DURABLE, running_cluster, why_none
from conftest import CHEAP, USER, Client, connected, eventually, running, token_of
from worker_service import ask
from worker_service import serving as workers_serving

from authapi import Settings, StartError, create_app

SECRET = "8f2d1c6b7a90e35f4d2c1b0a9988776655443322110f1e2d3c4b5a6978"

if why_none():
    pytest.skip(why_none(), allow_module_level=True)

import psycopg  # noqa: E402 - after it is known to be there

from authapi.database.postgresql.connections import Deadlines  # noqa: E402

NAME = "authapi look-ups"  # of the loop's connection


@pytest.fixture(name="durable", scope="module")
def _durable():
    """Return a server that loses nothing when it is killed."""
    with running_cluster(**DURABLE, max_connections="20") as cluster:
        yield cluster


@pytest.fixture(name="app")
def _app(durable):
    app = application(durable)
    app.core.database.deadlines = Deadlines(connect=30, change=30, check=30)  # for a busy machine
    yield app
    app.close()


@pytest.fixture(name="token")
def _token(app):
    """Return the token of the user, in a new session."""
    client = Client(app)
    client.register()
    return token_of(client.log_in())


def application(cluster, **settings):
    values = {"secret_key": SECRET, "rate_limits": "off", **CHEAP, **settings}
    return create_app(Settings(database_url=cluster.url, **values))


def request_of(token, path="/user"):
    return f"GET {path} HTTP/1.1\r\nHost: x\r\nCookie: jwt={token}\r\n\r\n".encode()


@contextmanager
def checking(port, token):
    """Yield a function that checks the session on one connection, and returns the status."""
    with closing(HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
        yield lambda path="/user", **headers: ask(
            connection, "GET", path, **(headers or {"Cookie": f"jwt={token}"})
        )[0]


def status(connection):
    return int(connection.recv(65_536)[9:12])


def run(cluster, statement, *parameters):
    with psycopg.connect(cluster.url, autocommit=True) as connection:
        cursor = connection.execute(statement, parameters)
        return cursor.fetchall() if cursor.description else []


def backends(cluster, name=NAME):
    """Return the process ids of the server's connections of a name."""
    found = run(cluster, "SELECT pid FROM pg_stat_activity WHERE application_name = %s", name)
    return [pid for (pid,) in found]


class Batches:
    """A pipeline that notes the size of each batch which it passes on to a real one."""

    def __init__(self, pipeline):
        self._pipeline, self.sizes = pipeline, []

    def __getattr__(self, name):
        return getattr(self._pipeline, name)

    def send(self, keys):
        self.sizes.append(len(keys))
        self._pipeline.send(keys)


class Held:
    """A quick resource that holds the loop."""

    public = quick = True

    def __init__(self):
        self.holds, self.go = threading.Event(), threading.Event()

    def on_get(self, _req, resp):
        self.holds.set()
        self.go.wait()
        resp.media = {}


def test_sqlite_is_read_in_the_loop(make_app):
    """On SQLite the loop reads the file itself."""
    assert make_app().look_ups.pipeline() is None


def test_a_revocation_in_another_process(durable, tmp_path):
    """A session that one worker has ended is dead at the next check of every worker.

    Each worker has a connection of its own for session checks.
    """
    environ = {"AUTHAPI_DATABASE_URL": durable.url, "AUTHAPI_SECRET_KEY": SECRET}
    with workers_serving(tmp_path, 2, **environ) as service, service.each() as connections:
        one, other = connections.values()
        ask(one, "POST", "/register", USER)
        login = {"usernameOrEmail": USER["username"], "password": USER["password"]}
        cookie = ask(one, "POST", "/login", login)[2]["Set-Cookie"].partition(";")[0]
        for _ in range(3):
            assert [ask(each, "GET", "/user", Cookie=cookie)[0] for each in (one, other)] == [
                200,
                200,
            ]
        assert len(backends(durable)) == 2
        assert ask(other, "POST", "/logout", {}, Cookie=cookie)[0] == 200
        assert [ask(each, "GET", "/user", Cookie=cookie)[0] for each in (one, other)] == [401, 401]


def test_many_checks_are_few_statements(app, token):
    """A hundred checks that come at once take few statements, and each has its own answer."""
    held, pipeline, client = Held(), Batches(app.look_ups.pipeline()), Client(app)
    app.add_route("/held", held)
    app.look_ups.pipeline = lambda: pipeline
    dead = token_of(client.log_in())
    client.request_as(dead, "POST", "/logout")
    with running(app) as port, ExitStack() as stack:
        crowd = [stack.enter_context(connected(port)) for _ in range(100)]
        for connection in crowd:  # each is known to the loop before it is held
            connection.sendall(request_of("none"))
            assert status(connection) == 401
        holder = stack.enter_context(connected(port))
        holder.sendall(request_of("none", "/held"))
        assert held.holds.wait(60)
        for number, connection in enumerate(crowd):
            connection.sendall(request_of(token if number % 2 else dead))
        held.go.set()
        assert [status(connection) for connection in crowd] == [401, 200] * 50

    assert sum(pipeline.sizes) == 100
    assert len(pipeline.sizes) <= 20


def test_the_loop_answers_as_threads_do(app, token):
    """A check has the same answer by a look-up as by a statement of a thread's own."""
    client = Client(app)
    other, disabled = token_of(client.log_in()), token_of(client.log_in())
    client.request_as(disabled, "POST", "/logout")
    forged = f"{token[:-4]}AAAA"
    requests = [
        {"X-None": "1"},
        *({"Cookie": f"jwt={each}"} for each in (token, disabled, forged, "", "x" * 2_000)),
        *({"Authorization": f"Bearer {each}"} for each in (token, disabled, forged)),
        {"Cookie": f"jwt={token}; jwt={disabled}"},
        {"Cookie": f"jwt={token}; jwt={other}"},
        {"Cookie": f"jwt={token}", "Authorization": f"Bearer {token}"},
        {"Cookie": f"jwt={token}", "Authorization": f"Bearer {other}"},
        {"Cookie": f"jwt={disabled}", "Authorization": f"Bearer {token}"},
    ]
    with running(app) as port, checking(port, token) as check:
        for path in ("/user", "/verify"):
            for headers in requests:
                expected = client.simulate_get(path, headers=headers).status_code
                assert check(path, **headers) == expected, (path, headers)


def test_what_the_database_says_counts(app, token, durable):
    """A session that expires in the database is dead, and so are those of a disabled user."""
    with running(app) as port, checking(port, token) as check:
        assert check() == 200
        run(durable, "UPDATE sessions SET expires_at = unixepoch()")
        assert check() == 401
        run(durable, "UPDATE sessions SET expires_at = unixepoch() + 1000")
        assert check() == 200
        run(durable, "UPDATE users SET disabled_at = unixepoch()")
        assert check() == 401
        run(durable, "UPDATE users SET disabled_at = NULL")


def test_a_server_that_is_killed(durable):
    """While the server is away checks are 503s; when it is back they go on, without a restart."""
    app = application(durable)
    client = Client(app)
    client.register()
    token = token_of(client.log_in())
    with running(app) as port, checking(port, token) as check:
        assert check() == 200
        durable.kill()
        eventually(lambda: check() == 503)
        assert check() == 503
        assert check("/user", Cookie="jwt=none") == 401
        eventually(durable.restarted)
        eventually(lambda: check() == 200)
    app.close()


def test_a_backend_that_is_killed(app, token, durable):
    """After a backend was killed the server starts all anew: checks are 200 or 503, then 200."""
    with running(app) as port, checking(port, token) as check:
        assert check() == 200
        os.kill(backends(durable)[0], signal.SIGKILL)
        seen = set()
        eventually(lambda: seen.add(check()) or (200 in seen and check() == 200))
        assert seen <= {200, 503}
        eventually(lambda: check() == 200 and len(backends(durable)) == 1)


def test_a_connection_that_is_ended(app, token, durable):
    """A check whose connection the server has ended is asked again on another one."""
    with running(app) as port, checking(port, token) as check:
        assert check() == 200
        for _ in range(3):
            run(durable, "SELECT pg_terminate_backend(%s, 60000)", *backends(durable))
            assert check() == 200


def test_a_connection_that_is_old(app, token, durable):
    """An old connection is replaced between two checks, so that a new primary is found."""

    class Worn(Batches):
        is_worn = True

    pipeline = Worn(app.look_ups.pipeline())
    app.look_ups.pipeline = lambda: pipeline
    with running(app) as port, checking(port, token) as check:
        seen = set()
        for _ in range(5):
            assert check() == 200
            seen.update(backends(durable))
        assert len(seen) == 5
        pipeline.is_worn = False
        assert [check() for _ in range(3)] == [200] * 3
        assert seen.union(backends(durable)) == seen


def test_a_server_that_hangs(durable, caplog):
    """Checks end with 503 where the server hangs; meanwhile the loop answers others.

    The log has one line when that begins, and one when it ends.
    """
    app = application(durable)
    client = Client(app)
    client.register()
    token = token_of(client.log_in())
    with running(app) as port, checking(port, token) as check, connected(port) as waiting:
        assert check() == 200
        with durable.hanging():
            waiting.sendall(request_of(token))
            assert check("/user", Cookie="jwt=none") == 401
            waiting.settimeout(0)
            with pytest.raises(BlockingIOError):
                waiting.recv(1)
            waiting.settimeout(60)
            assert status(waiting) == 503
            assert [check() for _ in range(3)] == [503] * 3
        eventually(lambda: check() == 200)
    app.close()
    assert [line.partition(" (")[0] for line in caplog.messages if "request" not in line] == [
        "the database does not answer",
        "the database answers again",
    ]
    assert not [record for record in caplog.records if "unavailable" in record.getMessage()]


def test_a_server_without_a_connection_left(app, token, durable):
    """Where the server gives the loop no connection, threads check on those that are open."""
    with running(app) as port, checking(port, token) as check, ExitStack() as stack:
        app.core.database.run(lambda connection: connection.execute("SELECT 1"))
        with pytest.raises(psycopg.OperationalError, match="too many clients"):
            while True:
                stack.enter_context(psycopg.connect(durable.url))
        assert [check() for _ in range(3)] == [200] * 3
        assert not app.core.database.is_stuck
        with pytest.raises(StartError, match="too many clients.*: raise its max_connections, or"):
            application(durable)
        stack.close()
        eventually(lambda: check() == 200 and backends(durable))


def test_a_statement_that_fails(app, token, durable):
    """Where the statement cannot run, as after a change of the schema, threads check meanwhile."""
    with running(app) as port, checking(port, token) as check:
        assert check() == 200
        run(durable, "ALTER TABLE sessions ALTER COLUMN ip TYPE VARCHAR(64)")
        try:
            assert [check() for _ in range(3)] == [200] * 3
            eventually(lambda: check() == 200 and backends(durable))
        finally:
            run(durable, "ALTER TABLE sessions ALTER COLUMN ip TYPE TEXT")


def test_a_client_that_leaves(app, token, durable):
    """A client that ends its connection while its check waits harms nobody else's."""
    with running(app) as port, checking(port, token) as check:
        assert check() == 200
        with durable.hanging():
            for _ in range(5):
                with connected(port) as connection:
                    connection.sendall(request_of(token))
                    assert check("/user", Cookie="jwt=none") == 401
            with connected(port) as connection:
                connection.sendall(request_of(token) * 2)
                connection.shutdown(socket.SHUT_WR)
                assert check("/user", Cookie="jwt=none") == 401
        assert check() == 200


def test_a_stop_answers_what_waits(durable):
    """A service that is stopped answers the checks that it has sent."""
    app = application(durable)
    app.core.database.deadlines = Deadlines(connect=30, change=30, check=30)
    client = Client(app)
    client.register()
    token = token_of(client.log_in())
    with ExitStack() as stack:
        with running(app) as port:
            connection = stack.enter_context(connected(port))
            connection.sendall(request_of(token))
            assert status(connection) == 200
            with durable.hanging():
                connection.sendall(request_of(token))
                with checking(port, token) as check:
                    assert check("/user", Cookie="jwt=none") == 401
        assert status(connection) == 200
    app.close()
