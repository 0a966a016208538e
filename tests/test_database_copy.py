"""The copy to PostgreSQL: the service goes on there, whole or not at all."""

import os
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest
from cluster import why_none
from conftest import CHEAP, OTHER, USER, Client, eventually, token_of
from databases import insert_user, locked, opened
from engines import SECRET, PostgreSQLEngine, query

from authapi import Settings, StartError, create_app
from authapi.commands.cli import main
from authapi.database.opening import open_exclusively
from authapi.database.statements import load
from authapi.features.database_copy import LEFT_OUT, TABLES

if why_none():
    pytest.skip(why_none(), allow_module_level=True)

import psycopg

ENTRY = "id, created_at, event, user_id, session_id, request_id"
WAITS = """
CREATE FUNCTION waits() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN PERFORM pg_advisory_lock(1); RETURN NEW; END $$;
CREATE TRIGGER waits BEFORE INSERT ON root_keys FOR EACH ROW EXECUTE FUNCTION waits();
"""
CHANGES = """
CREATE FUNCTION changes() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN NEW.ip := 'another'; RETURN NEW; END $$;
CREATE TRIGGER changes BEFORE INSERT ON sessions FOR EACH ROW EXECUTE FUNCTION changes();
"""
FIRST = {"after": 0, "after_key": "", "at_most": 1}
IS_WAITING = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
IS_CONNECTED = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'authapi'"
COLUMNS = (
    "SELECT column_name FROM information_schema.columns"
    " WHERE table_schema = 'public' AND table_name = %s"
)


class Move:
    """A SQLite service with users, sessions and audit entries, and the server it moves to."""

    def __init__(self, folder, cluster):
        PostgreSQLEngine(cluster)  # empties it
        self.path, self.url = folder / "old.db", cluster.url
        self.client = self.service(f"sqlite:///{self.path}")
        self.client.register()
        self.client.register(**OTHER)
        self.token = token_of(self.client.log_in())
        assert self.client.log_in(password="wrong password").status_code == 401

    def service(self, url):
        return Client(create_app(Settings(database_url=url, secret_key=SECRET, **CHEAP)))

    def stop(self):
        self.client.app.close()

    def copy(self, *further):
        return main(["db", "copy", str(self.path), "--database-url", self.url, *further])

    def make_tables(self, trigger):
        """Make the server's tables, with a trigger."""
        self.service(self.url).app.close()
        self.ask(trigger)

    def ask(self, statement):
        """Run a statement on the server; return the one value."""
        with psycopg.connect(self.url) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchone()[0] if cursor.description else None

    def count(self, table):
        return self.ask(f"SELECT count(*) FROM {table}")


@pytest.fixture(name="move")
def _move(tmp_path, cluster, monkeypatch):
    monkeypatch.setenv("AUTHAPI_SECRET_KEY", SECRET)
    move = Move(tmp_path, cluster)
    yield move
    move.stop()


def test_a_copied_service(move, capsys):
    """An old token is answered, a password is right, and ids go on above the old ones."""
    before = move.client.query(f"SELECT {ENTRY} FROM audit_log ORDER BY id")
    move.stop()

    assert move.copy() == 0

    shown = capsys.readouterr().out
    assert "  users: 2\n" in shown
    assert "Do not start a service on the file" in shown
    moved = move.service(move.url)
    assert moved.get_as(move.token).status_code == 200
    assert moved.log_in().status_code == 200
    assert moved.register(username="third", email="third@example.com").status_code == 201
    users = query(moved.app.core.database, "SELECT id, username FROM users ORDER BY id", [])
    assert users == [(1, USER["username"]), (2, OTHER["username"]), (3, "third")]
    entries = query(moved.app.core.database, f"SELECT {ENTRY} FROM audit_log ORDER BY id", [])
    assert entries[: len(before)] == before
    assert entries[len(before)][0] == before[-1][0] + 1
    moved.app.close()


def test_ids_of_deleted_users(move):
    """The id of a user who was deleted before the copy is not given again."""
    with closing(sqlite3.connect(move.path)) as connection, connection:
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("DELETE FROM users WHERE id = 2")
    move.stop()
    assert move.copy() == 0

    moved = move.service(move.url)
    moved.register(**OTHER)
    assert query(moved.app.core.database, "SELECT max(id) FROM users", []) == [(3,)]
    moved.app.close()


def test_a_second_copy(move, capsys):
    """A server that has users is not copied to, and stays as it is."""
    move.stop()
    assert move.copy() == 0

    assert move.copy() == 1
    assert "has users or audit entries already" in capsys.readouterr().err
    assert move.count("users") == 2


def test_a_service_that_runs(move, capsys):
    """A file that a service has open is not copied, and can be used on."""
    assert move.copy() == 1

    assert "stop it first" in capsys.readouterr().err
    assert move.client.get_as(move.token).status_code == 200
    assert move.count("users") == 0


def test_a_program_that_knows_no_lock(move, capsys):
    """A file that another program has open is not copied either."""
    move.stop()

    with locked(move.path):
        assert move.copy() == 1

    assert "Another program uses" in capsys.readouterr().err


def test_a_service_that_starts_meanwhile(move):
    """No service can open the file while it is copied."""
    move.stop()

    with open_exclusively(move.path), pytest.raises(StartError, match="db copy has .* to itself"):
        move.service(f"sqlite:///{move.path}")


def test_other_keys(move, capsys):
    """Keys that are not the old service's are refused, because sessions would end."""
    move.stop()
    with closing(sqlite3.connect(move.path)) as connection, connection:
        connection.execute("UPDATE root_keys SET kid = 'another'")

    assert move.copy() == 1
    assert "other keys than the service" in capsys.readouterr().err
    assert move.count("users") == 0


def test_what_is_no_database_of_this_release(move, tmp_path, capsys):
    """A missing file, one of an older release, and a target that is a file are refused."""
    move.stop()
    older = opened(tmp_path / "older.db", 9)
    insert_user(older, "anna")
    older.close()
    for name, sentence in {"older.db": "start this release", "none.db": "no database"}.items():
        move.path = tmp_path / name
        assert move.copy() == 1
        assert sentence in capsys.readouterr().err
    move.path, move.url = tmp_path / "older.db", f"sqlite:///{tmp_path / 'old.db'}"
    assert move.copy() == 1
    assert "postgresql:// URL" in capsys.readouterr().err


def test_a_character_that_the_server_cannot_keep(move, capsys):
    """A row with a NUL character is named, and nothing is copied."""
    move.stop()
    with closing(sqlite3.connect(move.path)) as connection, connection:
        connection.execute("UPDATE sessions SET user_agent = 'a' || char(0)")

    assert move.copy() == 1
    assert "sessions has a row with a NUL" in capsys.readouterr().err
    assert move.count("users") == 0


def test_rows_of_nobody(move, capsys):
    """A session whose user was deleted by a program that checks no references is named."""
    move.stop()
    with closing(sqlite3.connect(move.path)) as connection, connection:
        connection.execute("DELETE FROM users WHERE id = 2")

    assert move.copy() == 1
    assert "belong to no row of users" in capsys.readouterr().err


def test_a_copy_that_is_killed(move):
    """A copy that is killed before its commit leaves nothing, and can be made again."""
    move.stop()
    move.make_tables(WAITS)
    command = [sys.executable, "-m", "authapi", "db", "copy", str(move.path)]
    environ = {**os.environ, "AUTHAPI_DATABASE_URL": move.url}
    with psycopg.connect(move.url, autocommit=True) as holder:
        holder.execute("SELECT pg_advisory_lock(1)")
        with subprocess.Popen(command, env=environ) as process:
            eventually(lambda: move.ask(IS_WAITING) == 1)
            process.kill()
    eventually(lambda: move.ask(IS_CONNECTED) == 0)

    assert [move.count(table) for table in ("users", "sessions", "audit_log")] == [0, 0, 0]
    move.ask("DROP FUNCTION waits CASCADE")
    assert move.copy() == 0
    assert move.count("users") == 2


def test_a_copy_that_is_not_the_same(move, capsys):
    """Where the server has other rows than the file, nothing is kept."""
    move.stop()
    move.make_tables(CHANGES)

    assert move.copy() == 1
    assert "The copy of sessions is not the same" in capsys.readouterr().err
    assert move.count("users") == 0


def test_more_rows_than_a_page(move):
    """Tables of many pages are copied whole, and users who share a lookalike too."""
    with closing(sqlite3.connect(move.path)) as connection, connection:
        connection.executemany(
            "INSERT INTO users (username, username_key, email, email_key) VALUES (?, ?, ?, ?)",
            [[f"{kind}{number}" for kind in ("a", "a", "e", "e")] for number in range(1200)],
        )
        connection.executemany(
            "INSERT INTO username_lookalikes (user_id, lookalike) VALUES (1, ?)",
            [[f"l{number}"] for number in range(1200)],
        )
        lookalikes = connection.execute("SELECT count(*) FROM username_lookalikes").fetchone()[0]
    move.stop()

    assert move.copy() == 0
    assert [move.count("users"), move.count("username_lookalikes")] == [1202, lookalikes]


def test_every_table(move):
    """Each table is copied with all its columns, or named as left out."""
    move.stop()
    assert move.copy() == 0
    with closing(sqlite3.connect(move.path)) as file, psycopg.connect(move.url) as server:
        listed = file.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")
        names = {name for (name,) in listed if not name.startswith("sqlite_")}
        assert names == {table.name for table in TABLES} | {*LEFT_OUT}
        for table in TABLES:
            text = load("copy", "sqlite")[table.name].sql
            read = {each[0] for each in file.execute(text, FIRST).description}
            columns = file.execute(f"PRAGMA table_info({table.name})").fetchall()
            there = {name for (name,) in server.execute(COLUMNS, [table.name])}
            assert read == {column[1] for column in columns} == there - {"xact"}
