"""PostgreSQL servers, roles and databases with settings of their own, and changes of them."""

import logging
import threading

import pytest
from cluster import why_none
from conftest import CHEAP, USER, Client, eventually, token_of
from databases import is_unavailable
from engines import SECRET

from authapi import Settings, StartError, create_app
from authapi.errors import Unavailable

if why_none():
    pytest.skip(why_none(), allow_module_level=True)

import psycopg

PASSWORD = "zzzzzz!"


@pytest.fixture(name="name", scope="module")
def _name(cluster):
    """Return the name of a database of this module's."""
    cluster.create_database("servers")
    return "servers"


@pytest.fixture(name="open_client")
def _open_client(cluster, name):
    """Return a function that starts the service on an empty database, with an ending of its URL."""
    apps = []

    def open_client(ending="", *, is_empty=True):
        if is_empty:
            run(cluster, name, "DROP SCHEMA public CASCADE; CREATE SCHEMA public")
        url = cluster.of(name).replace("postgres@", f"postgres:{PASSWORD}@") + ending
        values = {"secret_key": SECRET, "rate_limits": "off", **CHEAP}
        apps.append(create_app(Settings(database_url=url, **values)))
        return Client(apps[-1])

    yield open_client
    for app in apps:
        app.close()
    run(cluster, name, f"ALTER DATABASE {name} RESET ALL")


def run(cluster, name, statement):
    """Run a statement as an operator, and return its rows."""
    with psycopg.connect(cluster.of(name), autocommit=True) as connection:
        cursor = connection.execute(statement)
        return cursor.fetchall() if cursor.description else []


def shown(client, *names):
    """Return settings of a connection."""
    columns = ", ".join(f"current_setting('{name}')" for name in names)
    return client.app.core.database.run(lambda each: each.execute(f"SELECT {columns}").fetchone())


def test_a_column_that_gets_another_type(open_client, cluster, name):
    """What was prepared for the older type is prepared again: no check fails, a change may."""
    client = open_client()
    token = token_of(client.register())
    assert [client.get_as(token).status_code, client.log_in().status_code] == [200, 200]

    run(cluster, name, "ALTER TABLE sessions ALTER COLUMN ip TYPE varchar(64)")
    assert [client.get_as(token).status_code for _ in range(3)] == [200] * 3
    client.log_in()
    run(cluster, name, "ALTER TABLE sessions ALTER COLUMN id_hash TYPE varchar(64)")
    answers = [client.log_in(), client.log_in()]

    assert answers[0].status_code == 200 or is_unavailable(answers[0])
    assert answers[1].status_code == 200


def test_a_server_that_lets_nobody_in(open_client, cluster, name):
    """Where no new connection can be made, whatever the server says, those that are open go on."""
    client = open_client()
    token = token_of(client.register())
    database = client.app.core.database

    cluster.query(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
    try:
        assert [client.get_as(token).status_code, client.log_in().status_code] == [200, 200]
        answers = []
        with database.transaction():  # which has the only connection
            thread = threading.Thread(target=lambda: answers.append(client.log_in()))
            thread.start()
            thread.join()
        assert is_unavailable(answers[0])
        assert not database.is_stuck
        assert client.log_in().status_code == 200
    finally:
        cluster.query(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")


def test_limits_of_a_database(open_client, cluster, name):
    """Shorter limits than the service's count, and longer ones do not; a URL keeps its options."""
    for each in ("lock_timeout = '100ms'", "statement_timeout = '1min'"):
        run(cluster, name, f"ALTER DATABASE {name} SET {each}")

    client = open_client("?options=-c%20idle_session_timeout%3D90s")

    names = ("lock_timeout", "statement_timeout", "idle_in_transaction_session_timeout")
    assert shown(client, *names, "idle_session_timeout") == ("100ms", "10s", "15s", "90s")


@pytest.mark.parametrize("limit", ["lock_timeout", "statement_timeout", "transaction_timeout"])
def test_a_limit_that_ends_a_change(open_client, cluster, name, limit):
    """A change that a limit of the database ends is a 503, and the next one goes well."""
    holder = open_client()
    holder.register()
    if not run(cluster, name, f"SELECT 1 FROM pg_settings WHERE name = '{limit}'"):
        pytest.skip("the server is too old for this limit")
    run(cluster, name, f"ALTER DATABASE {name} SET {limit} = '300ms'")
    client = open_client(is_empty=False)

    with holder.app.core.database.transaction(of=1):
        assert is_unavailable(client.log_in())

    assert client.log_in().status_code == 200


def test_a_process_that_hangs_in_a_change(open_client, cluster, name):
    """The server ends a change that nobody goes on with, right after its beginning too."""
    client = open_client()
    client.register()
    run(cluster, name, f"ALTER DATABASE {name} SET {IDLE} = '50ms'")
    other = open_client("?application_name=other", is_empty=False)
    waiting = f"SELECT count(*) {OTHERS} AND application_name = 'other' AND state LIKE 'idle in%'"

    with pytest.raises(Unavailable), other.app.core.database.transaction(of=[1, 2]):
        eventually(lambda: run(cluster, name, waiting) == [(0,)])

    assert [client.log_in().status_code, other.log_in().status_code] == [200, 200]


def test_connections_that_a_server_ends(open_client, cluster, name):
    """An idle connection that the server has ended is replaced, and nothing fails."""
    client = open_client("?application_name=idle&options=-c%20idle_session_timeout%3D20ms")
    token = token_of(client.register())
    count = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'idle'"

    for _ in range(3):
        eventually(lambda: run(cluster, name, count) == [(0,)])
        assert client.get_as(token).status_code == 200


def test_an_operator_with_another_search_path(open_client, cluster, name):
    """The triggers find the service's tables, and touch no others of the same names."""
    client = open_client()
    token = token_of(client.register())
    run(cluster, name, "CREATE SCHEMA other; CREATE TABLE other.sessions (user_id bigint)")
    try:
        run(
            cluster,
            name,
            "SET search_path = other; INSERT INTO sessions VALUES (1);"
            " UPDATE public.users SET disabled_at = public.unixepoch() WHERE id = 1",
        )
        assert run(cluster, name, "SELECT count(*) FROM other.sessions") == [(1,)]
        assert client.get_as(token).status_code == 401
        with pytest.raises(psycopg.errors.RaiseException, match="90 days"):
            run(cluster, name, "SET search_path = other; DELETE FROM public.audit_log")
    finally:
        run(cluster, name, "DROP SCHEMA other CASCADE")


def test_a_schema_of_its_own(open_client, cluster, name):
    """With a search_path in the URL, the tables are in that schema, beside another program's."""
    run(cluster, name, "CREATE SCHEMA auth")
    try:
        client = open_client("?options=-c%20search_path%3Dauth")
        run(cluster, name, "CREATE TABLE public.sessions (user_id bigint)")
        assert client.register().status_code == 201
        assert client.log_in().status_code == 200
        assert run(cluster, name, "SELECT username FROM auth.users") == [(USER["username"],)]
    finally:
        run(cluster, name, "DROP SCHEMA auth CASCADE")


def test_an_isolation_level_of_a_database(open_client, cluster, name):
    """Changes are READ COMMITTED, whatever the database's own level is."""
    run(cluster, name, f"ALTER DATABASE {name} SET default_transaction_isolation = 'serializable'")
    database = open_client().app.core.database

    with database.transaction():
        assert database.statements("database").isolation() == "read committed"


def test_another_encoding(open_client):
    """Text is sent in UTF-8, whatever encoding the URL names."""
    client = open_client("?client_encoding=latin1")

    answer = client.register(username="\u0436\u0435\u043d\u044f")
    assert answer.json["user"]["username"] == "\u0436\u0435\u043d\u044f"


def test_a_role_without_rights(open_client, cluster, name):
    """A start with a role that may not read the tables says so."""
    open_client()
    run(cluster, name, "DROP ROLE IF EXISTS guest; CREATE ROLE guest LOGIN")
    run(cluster, name, "GRANT USAGE ON SCHEMA public TO guest")
    url = cluster.of(name).replace("postgres@", "guest@")
    with pytest.raises(StartError, match="permission denied for table migrations"):
        create_app(Settings(database_url=url, secret_key=SECRET, **CHEAP))
    run(cluster, name, "DROP OWNED BY guest; DROP ROLE guest")


def test_a_standby(cluster):
    """No connection to a standby is used: it learns late which sessions have ended.

    Of several hosts, the one that is the primary is used.
    """
    standby = cluster.standby()
    try:
        with pytest.raises(StartError, match=r"the server is a standby.*name the primary"):
            create_app(Settings(database_url=standby.url, secret_key=SECRET, **CHEAP))
        both = cluster.url.replace("@", f"@127.0.0.1:{standby.port},")
        app = create_app(Settings(database_url=both, secret_key=SECRET, **CHEAP))
        assert f":{cluster.port}, PostgreSQL" in app.core.database.description
        app.close()
    finally:
        standby.stop()


def test_a_password_is_never_shown(open_client, cluster, name, caplog):
    """The password of the URL is in no line of the log at the level debug, and in no `repr`."""
    caplog.set_level(logging.DEBUG)
    client = open_client()
    token = token_of(client.register())
    database = client.app.core.database
    run(cluster, name, f"SELECT pg_terminate_backend(pid) {OTHERS}")
    cluster.query(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
    try:
        answer = client.get_as(token)
        assert is_unavailable(answer)
    finally:
        cluster.query(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
    eventually(lambda: not database.is_stuck)

    texts = [caplog.text, answer.text, database.description]
    texts += map(repr, (database, database.connector, database.pool, client.app.core))
    with database.transaction():
        texts += map(repr, (vars(database.pool), database.run(lambda each: each)))
    assert not [text for text in texts if PASSWORD in text]


IDLE = "idle_in_transaction_session_timeout"
OTHERS = "FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = current_database()"
