"""A log that is removed, or is another one, while the database is in use: nothing is lost."""

import signal
import subprocess
import sys

import pytest
from conftest import USER, Client, process, request
from databases import (
    UNLIMITED,
    in_a_thread,
    is_unavailable,
    look_always,
    numbered,
    register,
    remove_log,
    usernames,
)


@pytest.fixture(name="client")
def _client(make_client):
    return make_client(**UNLIMITED)


@pytest.fixture(name="looks_always")
def _looks_always(client):
    """Make session checks look at the file's name each time, so that no test need wait."""
    look_always(client)


@pytest.mark.usefixtures("looks_always")
@pytest.mark.parametrize("suffix", ["-wal", "-shm"])
def test_a_log_that_is_gone(client, token, path, make_app, suffix):
    """Everything is refused, also on new connections, and nothing acknowledged is lost."""
    assert numbered(client, 1).status_code == 201
    path.with_name(f"authapi.db{suffix}").unlink()

    for _ in range(2):
        assert is_unavailable(client.get_as(token))
        assert is_unavailable(numbered(client, 2))
    assert is_unavailable(in_a_thread(lambda: client.get_as(token)))
    assert not path.with_name(f"authapi.db{suffix}").exists()
    assert usernames(path) == [USER["username"], "user1"]

    client.app.close()
    assert Client(make_app(**UNLIMITED)).get_as(token).status_code == 200


@pytest.mark.usefixtures("looks_always")
def test_moved_and_linked(client, token, path, make_app):
    """A file that is moved and linked to has another log: all is refused until a restart.

    Who opens the file by its new name meanwhile loses nothing either.
    """
    assert numbered(client, 1).status_code == 201
    path.with_name("data").mkdir()
    moved = path.with_name("data") / path.name
    path.rename(moved)
    path.symlink_to(moved)

    assert is_unavailable(client.get_as(token))
    assert is_unavailable(numbered(client, 2))
    other = Client(make_app(**UNLIMITED))
    assert numbered(other, 2).status_code == 201
    assert is_unavailable(client.get_as(token))
    client.app.close()
    assert numbered(other, 3).status_code == 201
    other.app.close()
    assert usernames(path) == [USER["username"], "user1", "user2", "user3"]


@pytest.mark.usefixtures("looks_always")
def test_another_log_beside_the_same_file(client, token, path):
    """The service's log does not overwrite what another service acknowledges in its own."""
    assert numbered(client, 1).status_code == 201
    remove_log(path)
    with process(path.parent, AUTHAPI_RATE_LIMITS="off") as (_, url):
        assert register(url, 2)[0] == 201
        assert is_unavailable(client.get_as(token))
        client.app.close()
        assert register(url, 3)[0] == 201
    assert "user2" in usernames(path)
    assert "user3" in usernames(path)


def test_a_log_that_closed_with_the_last_connection(client, token, path):
    """SQLite deletes the log with the last connection, and the next connection works."""
    client.app.core.database.prepare_to_fork()
    assert not path.with_name("authapi.db-wal").exists()

    assert client.get_as(token).status_code == 200
    assert numbered(client, 1).status_code == 201


@pytest.mark.skipif(sys.platform != "linux", reason="locks of open files are Linux's")
@pytest.mark.parametrize("ends_last", ["the first", "the second"])
def test_an_end_takes_no_newer_log_away(tmp_path, ends_last):
    """After the log was removed, no service that ends deletes the log of a second one."""
    with process(tmp_path, AUTHAPI_RATE_LIMITS="off") as (service, url):
        register(url, 1)
        remove_log(tmp_path / "authapi.db")
        assert register(url, 2)[0] == 503
        with process(tmp_path, AUTHAPI_RATE_LIMITS="off") as (second, other):
            assert register(other, 2)[0] == 201
            for one in (service, second) if ends_last == "the second" else (second, service):
                one.send_signal(signal.SIGTERM)
                assert one.wait() == 0
    assert usernames(tmp_path / "authapi.db") == ["user1", "user2"]


def test_a_removed_log_that_nobody_has_asked_for(tmp_path):
    """A service without requests knows its log too, and refuses another one."""
    with (
        process(tmp_path, AUTHAPI_RATE_LIMITS="off") as (_, url),
        process(tmp_path, AUTHAPI_RATE_LIMITS="off") as (_, other),
    ):
        cookie = register(url, 1)[2]["Set-Cookie"].partition(";")[0]
        assert request(f"{url}/logout", {}, Cookie=cookie)[0] == 200
        remove_log(tmp_path / "authapi.db")

        assert request(f"{other}/user", Cookie=cookie)[0] == 503
        assert register(other, 2)[0] == 503
        # Session checks look at the file's name each LOOK_EVERY seconds, and not at each request.
        assert any(request(f"{url}/user", Cookie=cookie)[0] == 503 for _ in range(1_000))
    with process(tmp_path) as (_, url):
        assert request(f"{url}/user", Cookie=cookie)[0] == 401
    assert usernames(tmp_path / "authapi.db") == ["user1"]


OVERWRITE = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1])
with connection:
    connection.execute("UPDATE users SET username = 'renamed' WHERE id = 1")
print(connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone())
"""


@pytest.mark.usefixtures("looks_always")
def test_a_lost_log_is_not_written_over_newer_changes(client, token, path):
    """A lost log does not overwrite what another program has written to the file since."""
    client.app.core.database.prepare_to_fork()  # which takes the log in
    assert numbered(client, 1).status_code == 201
    remove_log(path)
    said = subprocess.check_output([sys.executable, "-c", OVERWRITE, str(path)], text=True)
    assert said == "(0, 0, 0)\n"
    assert is_unavailable(client.get_as(token))
    client.app.close()

    assert usernames(path) == ["renamed"]


def test_a_lost_log_that_a_change_notices_first(client, path, make_app):
    """Acknowledged changes are in the file before a change is refused."""
    client.app.core.database.connections.look_every = 3_600  # so that only transactions look
    assert numbered(client, 1).status_code == 201
    remove_log(path)
    assert is_unavailable(numbered(client, 2))

    assert numbered(Client(make_app()), 2).status_code == 201
    client.app.close()

    assert usernames(path) == ["user1", "user2"]
