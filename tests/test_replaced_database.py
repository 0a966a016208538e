"""A database that is replaced, moved or removed while it is in use: nothing is lost or revived."""

import errno
import signal
import sqlite3
from contextlib import closing

import pytest
from conftest import USER, Client, process, request, token_of
from databases import (
    UNLIMITED,
    back_up,
    causes,
    in_a_thread,
    is_unavailable,
    look_always,
    numbered,
    overtaken,
    register,
    replace,
    usernames,
)

from authapi.database.sqlite import SQLiteDatabase, migrate
from authapi.database.sqlite.connections import LOOK_EVERY, Connection
from authapi.errors import Unavailable

PUT_BACK = "replaced or removed while in use: put it back, or restart to use what is there"


@pytest.fixture(name="client")
def _client(make_client):
    return make_client(**UNLIMITED)


@pytest.fixture(name="looks_always")
def _looks_always(client):
    """Make session checks look at the file's name each time, so that no test need wait."""
    look_always(client)


@pytest.mark.usefixtures("looks_always")
def test_replaced(client, token, path, make_app, caplog):
    """A file that lost its name is neither read nor written, and loses nothing.

    It holds what was acknowledged; the file in its place is unchanged, after a start too.
    """
    back_up(path)
    kept, moved = path.with_name("copy.db").read_bytes(), path.with_name("moved.db")
    assert numbered(client, 1).status_code == 201
    replace(path, moved)

    assert is_unavailable(client.get_as(token))
    assert is_unavailable(client.log_in())
    assert is_unavailable(client.request_as(token, "POST", "/logout"))
    assert causes(caplog) == {f"[Errno {errno.ESTALE}] {PUT_BACK}: {str(path)!r}"}
    assert kept == path.read_bytes()
    assert path.with_name("authapi.db-wal").stat().st_size == 0
    client.app.close()

    assert usernames(moved) == [USER["username"], "user1"]
    restored = Client(make_app(**UNLIMITED))
    assert restored.get_as(token).status_code == 200
    assert restored.log_in("user1").status_code == 401
    assert restored.query("PRAGMA integrity_check") == [("ok",)]


@pytest.mark.usefixtures("looks_always")
def test_replaced_for_a_thread_without_a_connection(client, token, path):
    """A thread without a connection does not open the other file."""
    back_up(path)
    replace(path)

    assert is_unavailable(in_a_thread(lambda: client.get_as(token)))
    assert len(client.app.core.database.connections.opened) == 1


def test_replaced_while_it_is_opened(client, path):
    """A file that is put in place between the look and the opening is not opened either."""
    back_up(path)
    core = client.app.core
    core.database.prepare_to_fork()

    def late(*arguments, **options):
        replace(path)
        return Connection(*arguments, **options)

    other = SQLiteDatabase(path)
    other.statements("users").newest_id()
    assert numbered(client, 1).status_code == 201
    core.database.prepare_to_fork()
    kept = path.with_name("copy.db").read_bytes()
    core.database.connections.factory = late
    with pytest.raises(Unavailable) as held:  # and the connection, by its traceback
        core.database.statements("migrations").applied()
    client.app.close()

    assert held
    assert kept == path.read_bytes()
    other.close()


def test_replaced_while_a_write_waits(client, path):
    """A change that waited for the writer lock looks again before it is made."""
    back_up(path)

    answer = overtaken(client.app, lambda: numbered(client, 1), lambda: replace(path))

    assert is_unavailable(answer)
    assert usernames(path) == []


@pytest.mark.usefixtures("looks_always")
def test_removed(client, token, path):
    """A missing database is not made anew, and works without a restart when it is put back."""
    moved = path.with_name("moved.db")
    path.rename(moved)

    assert is_unavailable(client.get_as(token))
    assert is_unavailable(client.log_in())
    assert not path.exists()

    moved.rename(path)
    assert client.get_as(token).status_code == 200
    assert client.log_in().status_code == 200


def test_replaced_and_seen_by_a_thread_without_a_connection(client, path):
    """The first thread that notices writes the log into its own file, not into another."""
    back_up(path)
    assert numbered(client, 1).status_code == 201
    moved = path.with_name("moved.db")
    replace(path, moved)
    in_a_thread(client.app.maintain)

    assert usernames(path) == []
    assert usernames(moved) == ["user1"]


@pytest.mark.usefixtures("looks_always")
def test_replaced_twice(client, token, path):
    """A file that is put back, used and replaced again gets its log again."""
    moved = path.with_name("moved.db")
    for number in range(2):
        back_up(path)
        assert numbered(client, number).status_code == 201
        replace(path, moved)
        assert is_unavailable(client.get_as(token))
        assert usernames(moved)[-1] == f"user{number}"
        moved.rename(path)
        assert client.get_as(token).status_code == 200


@pytest.mark.usefixtures("looks_always")
def test_opened_by_another_program_while_it_was_replaced(client, token, path, make_app, caplog):
    """If another program deletes the log, the file that is put back is whole."""
    back_up(path)
    assert numbered(client, 1).status_code == 201
    moved = path.with_name("moved.db")
    replace(path, moved)
    assert is_unavailable(client.get_as(token))
    assert usernames(path) == [USER["username"]]
    moved.rename(path)

    assert is_unavailable(numbered(client, 2))
    assert is_unavailable(client.get_as(token))
    assert "while in use: restart the service: " in caplog.messages[-1]
    client.app.close()
    assert usernames(path) == [USER["username"], "user1"]
    assert Client(make_app(**UNLIMITED)).get_as(token).status_code == 200


def test_a_link(tmp_path, make_client):
    """A link may name the database; a link to another file counts as a replaced database."""
    real = tmp_path / "data" / "real.db"
    real.parent.mkdir()
    link = tmp_path / "authapi.db"
    link.symlink_to(real)
    client = make_client(**UNLIMITED)
    look_always(client)
    token = token_of(client.register())
    assert {"real.db-wal", "real.db.lock"} <= {file.name for file in real.parent.iterdir()}

    back_up(real)
    link.unlink()
    link.symlink_to(real.with_name("copy.db"))
    assert is_unavailable(client.get_as(token))
    assert is_unavailable(client.log_in())
    link.unlink()
    link.symlink_to(real)
    assert client.get_as(token).status_code == 200


def test_an_end_takes_no_log_of_another_service_away(tmp_path):
    """A service whose file was replaced ends without deleting the log of the new file's service."""
    path = tmp_path / "authapi.db"
    with process(tmp_path, AUTHAPI_RATE_LIMITS="off") as (service, url):
        register(url, 1)
        back_up(path)
        replace(path)
        assert register(url, 2)[0] == 503
        with process(tmp_path, AUTHAPI_RATE_LIMITS="off") as (_, other):
            assert register(other, 2)[0] == 201
            service.send_signal(signal.SIGTERM)
            assert service.wait() == 0
            assert register(other, 3)[0] == 201
    assert usernames(path) == ["user1", "user2", "user3"]


def test_maintenance_tells_once(client, path, caplog):
    """A service without requests logs once that its file was replaced."""
    client.app.maintain()
    path.rename(path.with_name("moved.db"))
    for _ in range(3):
        client.app.maintain()
    path.with_name("moved.db").rename(path)
    client.app.maintain()

    told = [line for line in caplog.messages if PUT_BACK in line]
    assert len(told) == 1


def test_looks_are_few(tmp_path, clock):
    """Reads look at the file's name once in LOOK_EVERY seconds, and changes always."""
    path, moved = tmp_path / "other.db", tmp_path / "moved.db"
    database = SQLiteDatabase(path, clock=clock)
    migrate(database)
    read = database.statements("migrations").applied

    path.rename(moved)
    assert read()
    clock.move(LOOK_EVERY)
    with pytest.raises(Unavailable):
        read()
    moved.rename(path)
    assert read()
    path.rename(moved)
    with pytest.raises(Unavailable), database.transaction():
        pass
    database.close()


def test_restored_through_sqlite(client, token, path):
    """A copy that SQLite restores, as `.restore` does, counts at the next request."""
    back_up(path)
    later = token_of(client.log_in())
    with (
        closing(sqlite3.connect(path.with_name("copy.db"))) as copy,
        closing(sqlite3.connect(path)) as connection,
    ):
        copy.backup(connection)

    assert client.get_as(later).status_code == 401
    assert client.get_as(token).status_code == 200
    assert client.log_in().status_code == 200


def test_replaced_under_a_process(tmp_path):
    """A service refuses, logs why, and uses the new file after a restart."""
    path = tmp_path / "authapi.db"
    with process(tmp_path, AUTHAPI_RATE_LIMITS="off") as (service, url):
        register(url, 1)
        back_up(path)
        cookie = register(url, 2)[2]["Set-Cookie"].partition(";")[0]
        replace(path)
        assert register(url, 3)[0] == 503
        assert request(f"{url}/user", Cookie=cookie)[0] == 503
        service.send_signal(signal.SIGTERM)
        _, log = service.communicate()
    assert f"{PUT_BACK}: {str(path)!r}" in log

    with process(tmp_path, AUTHAPI_RATE_LIMITS="off") as (_, url):
        assert request(f"{url}/user", Cookie=cookie)[0] == 401
        assert register(url, 2)[0] == 201
    assert usernames(path) == ["user1", "user2"]
