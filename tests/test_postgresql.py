"""PostgreSQL: the service on a real server, which goes away and comes back."""

import time

import pytest
from cluster import running_cluster, why_none
from conftest import CHEAP, USER, Client, eventually, token_of
from databases import is_unavailable

from authapi import Settings, StartError, create_app
from authapi.settings import DatabaseSettings, SettingError

SECRET = "8f2d1c6b7a90e35f4d2c1b0a9988776655443322110f1e2d3c4b5a6978"

if why_none():
    pytest.skip(why_none(), allow_module_level=True)

from authapi.database.postgresql import PostgreSQLDatabase  # noqa: E402 - it needs psycopg


@pytest.fixture(name="durable", scope="module")
def _durable():
    """Return a server that loses nothing when it is killed."""
    with running_cluster(fsync="on", synchronous_commit="on") as cluster:
        yield cluster


@pytest.fixture(name="served")
def _served(durable):
    client = Client(create_app(settings(durable.url)))
    yield client
    client.app.close()


def settings(url, **values):
    return Settings(database_url=url, **{"secret_key": SECRET, **CHEAP, **values})


def test_a_server_that_is_killed(served, durable, caplog):
    """While the server is away every answer is a 503 at once; afterwards all goes on."""
    token = token_of(served.register())
    assert served.get_as(token).status_code == 200

    durable.stop()
    answers = [served.get_as(token), served.log_in(), served.get_as(token)]
    assert all(map(is_unavailable, answers))
    assert served.app.core.database.is_stuck
    durable.start()

    eventually(lambda: not served.app.core.database.is_stuck)
    assert served.get_as(token).status_code == 200
    assert served.log_in().status_code == 200
    lines = [line for line in caplog.messages if line.startswith("the database")]
    assert ["does not answer" in lines[0], "answers again" in lines[-1], len(lines)] == [
        True,
        True,
        2,
    ]


def test_a_connection_that_was_lost_while_idle(served):
    """The server drops the idle connections: the next requests open others, and nothing fails."""
    with served.app.core.database.transaction():
        pid = served.app.core.database.run(lambda each: each.info.backend_pid)
    killer = PostgreSQLDatabase(served.app.core.settings.database_url)
    killer.run(lambda connection: connection.execute("SELECT pg_terminate_backend($1::int)", [pid]))
    killer.close()

    assert served.log_in("nobody").status_code == 401


def test_transactions_do_not_nest(served):
    """A second transaction in a first one would wait for a connection that the first one holds."""
    database = served.app.core.database
    with database.transaction(), pytest.raises(RuntimeError), database.transaction():
        pass


def test_the_servers_clock(durable):
    """Nodes run on the server's clock, whatever their own says."""
    wall = lambda: time.time() + 3_600  # noqa: E731
    database = PostgreSQLDatabase(durable.url, wall=wall)
    database.run(lambda connection: connection.execute("SELECT 1"))

    assert abs(database.clock(wall)() - time.time()) < 60
    assert database.clock(time.time) is time.time
    database.close()


def test_no_server(durable):
    """Where no server answers, the start says so in one line, without the password."""
    nowhere = f"postgresql://user:zzzzzz!@127.0.0.1:{durable.port}/nowhere"

    with pytest.raises(StartError, match='database "nowhere" does not exist|role') as refusal:
        create_app(settings(nowhere))
    assert "zzzzzz!" not in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_keys_are_shared(durable, tmp_path):
    """A node does not make keys of its own, with which the others' sessions would end."""
    for values in ({}, {"key_file": "a"}):
        with pytest.raises(SettingError, match="all nodes need the same"):
            Settings(database_url=durable.url, **values)
    files = {"key_file": f"{tmp_path}/a", "root_key_file": f"{tmp_path}/b"}
    with pytest.raises(StartError, match="There is no AUTHAPI_KEY_FILE"):
        create_app(settings(durable.url, secret_key="", **files))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://user:p@ss@host/db",
        "postgresql://user:pa/ss@host/db",
        "postgresql://user:pa?ss@host/db",
        "postgresql://user:zzz/db",
    ],
)
def test_passwords_that_are_not_encoded(url):
    """A URL that would be read in another way than it is meant is refused, and not shown."""
    with pytest.raises(SettingError, match="%40") as refusal:
        settings(url)
    assert url not in str(refusal.value)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://",
        "postgresql:///db?host=/run/postgresql&user=a",
        "postgres://user:p%40ss@[::1]:5432,b:5433/db?target_session_attrs=read-write",
        "postgresql://?service=authapi",
    ],
)
def test_urls(url):
    """All of libpq's URLs are taken, and none is shown."""
    assert url not in repr(settings(url))
    assert settings(url).of(DatabaseSettings).is_postgresql


def test_description(served):
    """The start line names the server, without a password."""
    assert "postgres at 127.0.0.1:" in served.app.core.database.description
    assert USER["username"] not in served.app.core.database.description
