"""PostgreSQL: the service on a real server, which goes away and comes back."""

import logging
import os
import re
import signal
import threading
import time
from functools import partial
from pathlib import Path

import pytest
from cluster import running_cluster, why_none
from conftest import CHEAP, USER, Client, eventually, process, request, start, token_of
from databases import is_unavailable
from engines import SECRET, PostgreSQLEngine, query
from test_races import at_once

from authapi import Caller, LoginFailed, Registered, Settings, StartError, create_app
from authapi.commands.cli import main
from authapi.database.migrations import Migration, migrations
from authapi.settings import DatabaseSettings, SettingError

if why_none():
    pytest.skip(why_none(), allow_module_level=True)

from authapi.database.postgresql import PostgreSQLDatabase, migrate

AUDIT = Path(__file__).parents[1] / "docs" / "features" / "audit.md"
CALLER = Caller(ip="192.0.2.1", user_agent="", request_id="1")
NOBODY = {"usernameOrEmail": "nobody", "password": "a password"}
TOLD = ["the database does not answer", "the database answers again"]


@pytest.fixture(name="durable", scope="module")
def _durable():
    """Return a server that loses nothing when it is killed."""
    with running_cluster(fsync="on", synchronous_commit="on") as cluster:
        yield cluster


@pytest.fixture(name="served")
def _served(durable):
    PostgreSQLEngine(durable)  # empties it
    client = Client(create_app(settings(durable.url)))
    yield client
    client.app.close()


def settings(url, **values):
    return Settings(database_url=url, **{"secret_key": SECRET, **CHEAP, **values})


def test_a_server_that_is_killed(served, durable, caplog):
    """While the server is away every answer is a 503 at once, with one line in the log for all."""
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
    lines = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert [line.partition(" (")[0] for line in lines] == TOLD


def test_readiness_while_the_server_is_away(served, durable, monkeypatch):
    """/readyz notices a server that is gone although no other request comes, and its return."""
    monkeypatch.setattr("authapi.database.watch.LOOK_EVERY", 0)

    def reason():
        return served.simulate_get("/readyz").json.get("reason")

    assert reason() is None
    durable.stop()
    eventually(lambda: reason() == "database_unavailable")
    assert served.simulate_get("/livez").status_code == 200
    durable.start()

    eventually(lambda: reason() is None)


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


def test_lookalikes_at_once(served):
    """When two names that look alike are registered at once, the second waits and is refused."""
    second, answers = Client(served.app), []

    def register_another(event):
        if not answers:
            answers.append(None)
            thread.start()
            eventually(lambda: not thread.is_alive() or waits_for_a_name(served))

    def register():
        answers.append(second.register(username="\u0441\u043e\u0441\u043e", email="b@example.com"))

    thread = threading.Thread(target=register)
    served.app.core.events.subscribe(register_another, Registered)
    first = served.register(username="coco", email="a@example.com")
    thread.join()

    assert first.status_code == 201
    assert (answers[1].status_code, answers[1].json["error"]) == (409, "username_taken")


def waits_for_a_name(client):
    """Return whether a connection waits for the lock on a name."""
    waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    return client.app.core.database.run(lambda each: each.execute(waiting).fetchone()[0])


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


def test_a_user_without_a_home(durable, monkeypatch):
    """A start needs no home directory: a container's user may have none."""
    monkeypatch.setattr(Path, "home", lambda: Path("~nobody-of-this-name").expanduser())

    create_app(settings(durable.url)).close()


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
        "postgresql://user:50%zz@host/db",
        "postgresql://user:50%00@host/db",
        "postgresql://user:50%ff@host/db",
        "postgresql://host/db?password=a=b",
        "postgresql://host/db?zzz",
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
        "postgresql://%2Frun%2Fpostgresql:5432/db?",
        "postgresql://user:50%25%26=&@[fe80::1%25eth0]/db?options=-c%20search_path%3Da&sslmode=disable",
    ],
)
def test_urls(url):
    """All of libpq's URLs are taken, and none is shown."""
    assert url not in repr(settings(url))
    assert settings(url).of(DatabaseSettings).is_postgresql


def test_a_parameter_that_is_none():
    """A URL with a parameter that libpq does not know stops the start with a sentence."""
    with pytest.raises(StartError, match='cannot be read .*"sslmod"') as refusal:
        create_app(settings("postgresql://user:zzzzzz@127.0.0.1/db?sslmod=require"))
    assert "zzzzzz" not in str(refusal.value)


def test_restored(served, durable, monkeypatch, capsys):
    """After a restore by pg_restore a command ends all sessions, and no id is given again."""
    token = token_of(served.register(username="restored", email="restored@example.com"))
    ((newest,),) = served.query("SELECT max(id) FROM users")

    monkeypatch.setenv("AUTHAPI_SECRET_KEY", SECRET)
    assert main(["db", "restore", "--yes", "--database-url", durable.url]) == 0
    assert "all sessions have ended" in capsys.readouterr().out

    assert served.get_as(token).status_code == 401
    user = served.register(username="later", email="later@example.com").json["user"]
    assert user["id"] == newest + 1_000_001
    ids = [number for (number,) in served.query("SELECT id FROM audit_log ORDER BY id")]
    assert ids[-1] - ids[-3] > 1_000_000_000


def test_an_older_node(durable):
    """A node goes on beside the schema of a newer one that says that it may, and else refuses."""
    durable.create_database("older")
    database = PostgreSQLDatabase(durable.of("older"))
    known = migrations("postgresql")
    migrate(database, known)
    newest = known[-1].version
    kind = Migration(newest + 1, "0002_later", f"-- needs: {newest}\nCREATE TABLE later (a int);\n")
    migrate(database, [*known, kind])
    migrate(database, known)
    unkind = Migration(newest + 2, "0003_last", "DROP TABLE later;\n")
    migrate(database, [*known, kind, unkind])
    with pytest.raises(StartError, match="newer than this program .it has 0003_last"):
        migrate(database, known)
    database.close()


def test_first_starts_at_once(durable):
    """When nodes start at once on an empty database, one of them makes the tables."""
    durable.create_database("first")
    databases = [PostgreSQLDatabase(durable.of("first")) for _ in range(6)]

    at_once([partial(migrate, database) for database in databases])

    assert [database.is_new for database in databases].count(True) == 1
    for database in databases:
        database.close()


def test_another_programs_database(durable):
    """A database that holds another program's tables is left alone."""
    durable.create_database("another")
    database = PostgreSQLDatabase(durable.of("another"))
    query(database, "CREATE TABLE users (a int)", ())

    with pytest.raises(StartError, match="another program"):
        migrate(database)
    database.close()


@pytest.mark.parametrize(
    ("option", "reason"),
    [
        ("default_transaction_read_only=on", "can only be read"),
        ("default_transaction_isolation=serializable", None),
    ],
)
def test_servers_that_do_not_fit(durable, option, reason):
    """A start refuses a server that it cannot use; a level that it sets itself does not matter."""
    url = f"{durable.url}?options=-c%20{option.replace('=', '%3D')}"
    if reason is None:
        create_app(settings(url)).close()
        return
    with pytest.raises(StartError, match=reason):
        create_app(settings(url))


def test_a_server_that_hangs(served, durable):
    """What the hang catches gets a 503 after a second, and what comes later at once."""
    token = token_of(served.register())
    pids = [durable.pid, *durable.children()]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        assert is_unavailable(served.get_as(token))
        assert served.app.core.database.is_stuck
        assert is_unavailable(served.log_in())
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)

    eventually(lambda: not served.app.core.database.is_stuck)
    assert served.get_as(token).status_code == 200


def test_a_user_who_is_locked(served):
    """A change that waits too long for its user's lock is a 503, and others go on."""
    token = token_of(served.register())
    other = PostgreSQLDatabase(served.app.core.settings.database_url)

    with other.transaction(of=1):
        change = {"username": "renamed"}
        assert is_unavailable(served.request_as(token, "PATCH", "/user", change))
        assert served.get_as(token).status_code == 200

    assert served.request_as(token, "PATCH", "/user", change).status_code == 200
    other.close()


def test_a_primary_that_is_one_no_longer(served):
    """A connection to a server that can only be read is not used again."""
    served.register()
    query(served.app.core.database, "SET default_transaction_read_only = on", ())

    assert is_unavailable(served.log_in())

    assert served.log_in().status_code == 200


def test_workers(durable, tmp_path):
    """Several workers, forked from one process, have connections of their own."""
    durable.create_database("workers")
    environ = {"AUTHAPI_DATABASE_URL": durable.of("workers"), "AUTHAPI_SECRET_KEY": SECRET}
    with process(tmp_path, AUTHAPI_WORKERS="2", **environ) as (_, url):
        _, _, headers = request(f"{url}/register", USER)
        cookies = [line.split(";")[0] for line in headers.get_all("Set-Cookie")]
        cookie = next(each for each in cookies if each.startswith("jwt="))
        statuses = {request(f"{url}/user", Cookie=cookie)[0] for _ in range(20)}
    assert statuses == {200}


def test_the_connections_of_a_start_line(durable, tmp_path):
    """A start says how many connections the service may open, and it opens no more."""
    durable.create_database("bounded")
    environ = {
        "AUTHAPI_DATABASE_URL": durable.of("bounded"),
        "AUTHAPI_DATABASE_CONNECTIONS": "2",
        "AUTHAPI_WORKERS": "2",
        "AUTHAPI_SECRET_KEY": SECRET,
        "AUTHAPI_RATE_LIMITS": "off",
    }
    service = start(tmp_path, **environ)
    try:
        line = service.stdout.readline()
        url = re.search(r"http://\S+:\d+", line)[0]
        at_once([lambda: request(f"{url}/logout", {"everywhere": False})] * 16)
        at_once([lambda: request(f"{url}/login", NOBODY)] * 16)
        count = "SELECT count(*) FROM pg_stat_activity WHERE datname = 'bounded'"
        ((opened,),) = durable.query(count)
    finally:
        service.kill()
        service.communicate()
    assert f"PostgreSQL {durable.query('SHOW server_version')[0][0]}, up to 6 connections, " in line
    assert 2 <= opened <= 6


def test_following_the_audit_log(served):
    """The documented way to follow the log misses nothing, in whatever order changes commit."""
    core = served.app.core
    (statement,) = re.findall(r"```sql\n(SELECT xact.*?);\n```", AUDIT.read_text(), re.DOTALL)
    statement = statement.replace(":xact", "CAST(? AS xid8)").replace(":id", "CAST(? AS bigint)")
    position, followed, go = ["0", 0], [], threading.Event()

    def follow():
        rows = served.query(statement, *position)
        followed.extend(row[1] for row in rows)
        if rows:
            position[:] = [str(rows[-1][0]), rows[-1][1]]
        return [row[4] for row in rows]

    def emit(detail):
        core.events.emit(LoginFailed(None, CALLER, None, detail=detail))

    def early():
        with core.database.transaction():
            emit("early")
            has_begun.set()
            go.wait(60)

    has_begun, thread = threading.Event(), threading.Thread(target=early)
    thread.start()
    assert has_begun.wait(60)
    with core.database.transaction():
        emit("late")
    newest = served.query("SELECT id, detail FROM audit_log ORDER BY id")
    seen = [follow()]
    go.set()
    thread.join()
    seen += [follow(), follow()]

    assert [detail for _, detail in newest] == ["late"]  # a reader of ids would go on from here
    assert seen == [[], ["early", "late"], []]
    assert followed == sorted(followed)


def test_description(served):
    """The start line names the server, without a password."""
    assert "postgres at 127.0.0.1:" in served.app.core.database.description
    assert USER["username"] not in served.app.core.database.description
