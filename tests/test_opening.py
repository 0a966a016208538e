"""Opening a database at a start: what is made, and what is refused."""

import multiprocessing
import os
import sqlite3
import stat
import sys

import pytest
from databases import MIGRATIONS, insert_user, locked, opened, rows, usernames

from authapi import Settings, StartError, database
from authapi.database.opening import open_database
from authapi.database.sqlite import SQLiteDatabase, migrate


@pytest.fixture(name="path")
def _path(tmp_path):
    return tmp_path / "authapi.db"


def test_schema(path):
    """Tables are STRICT, and ids are never reused."""
    opened(path).close()

    tables = rows(path, "SELECT name, strict FROM pragma_table_list WHERE type = 'table'")
    ours = {name: strict for name, strict in tables if not name.startswith("sqlite_")}
    assert {"users", "sessions", "migrations"} <= set(ours)
    assert set(ours.values()) == {1}
    ((users,),) = rows(path, "SELECT sql FROM sqlite_schema WHERE name = 'users'")
    assert "AUTOINCREMENT" in users


def test_file_mode(path):
    """Only the owner can read the database, its log files and its locks."""
    db = opened(path)
    with db.transaction():
        insert_user(db, "a")

    files = list(path.parent.glob("authapi.db*"))
    endings = ("", "-wal", "-shm", ".lock", ".run")
    assert {f"authapi.db{ending}" for ending in endings} == {file.name for file in files}
    assert {0o600} == {stat.S_IMODE(file.stat().st_mode) for file in files}
    db.close()


def test_a_file_that_is_no_database_keeps_its_mode(path):
    """A file that is no database keeps its mode."""
    path.write_bytes(b"dear friend, " * 100)
    path.chmod(0o644)

    with pytest.raises(StartError):
        opened(path)

    assert stat.S_IMODE(path.stat().st_mode) == 0o644


def migrate_and_register(path, barrier, results):
    db = SQLiteDatabase(path)
    barrier.wait()
    migrate(db)
    with db.transaction():
        insert_user(db, f"user{os.getpid()}")
    results.put(os.getpid())
    db.close()


def test_two_processes_start_at_once(path):
    """Processes that start together on an empty database make one correct schema, and all work."""
    spawn = multiprocessing.get_context("spawn")
    barrier, results = spawn.Barrier(4), spawn.Queue()
    processes = [
        spawn.Process(target=migrate_and_register, args=(path, barrier, results)) for _ in range(4)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()

    assert [process.exitcode for process in processes] == [0] * 4
    assert {f"user{results.get()}" for _ in processes} == set(usernames(path))
    versions = rows(path, "SELECT version FROM migrations")
    assert versions == [(each.version,) for each in MIGRATIONS]


@pytest.mark.parametrize("text", [b"no database at all, but long enough" * 40, b"x"])
def test_no_database(path, text):
    """A file that is no database is refused and not changed."""
    path.write_bytes(text)

    with pytest.raises(StartError, match="not a usable SQLite database"):
        opened(path)

    assert text == path.read_bytes()


def test_database_of_another_program(path):
    """A database with another program's tables is refused and not changed."""
    rows(path, "CREATE TABLE cookies (a)")

    with pytest.raises(StartError, match="database of another program"):
        opened(path)

    assert rows(path, "SELECT name FROM sqlite_schema") == [("cookies",)]


@pytest.mark.parametrize(
    "where", ["/proc/authapi.db", "/proc/nowhere/authapi.db", "/dev/null/x.db"]
)
def test_directory_that_cannot_be_written(tmp_path, where):
    """A directory that is missing or cannot be written stops the start."""
    with pytest.raises(StartError, match="cannot be written"):
        opened(tmp_path / where)


def test_old_sqlite(path, monkeypatch):
    """SQLite without STRICT tables or unixepoch() stops the start before a file is made."""
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 37, 2))

    with pytest.raises(StartError, match="too old"):
        opened(path)

    assert not path.exists()


def test_a_locked_database(path):
    """A database that another program keeps locked stops the start, with what to do about it."""
    opened(path).close()
    database = SQLiteDatabase(path)
    database.lock_timeout = 0.1

    with (
        locked(path),
        pytest.raises(StartError, match=r"cannot be used .database is locked.: .* keeps it locked"),
    ):
        migrate(database)
    database.close()


class Unlogged(SQLiteDatabase):
    """A database on a file system that cannot keep a write-ahead log."""

    def use_write_ahead_log(self):
        return False


def test_no_write_ahead_log(path):
    """A file system that cannot keep the log stops the start."""
    with pytest.raises(StartError, match="write-ahead log"):
        migrate(Unlogged(path))


def test_a_hard_link(tmp_path, make_app):
    """A database with a hard link has two logs, so it is refused by both names."""
    make_app().close()
    (tmp_path / "other.db").hardlink_to(tmp_path / "authapi.db")

    for name in ("authapi.db", "other.db"):
        with pytest.raises(StartError, match=f"{name} has a second name"):
            make_app(database_url=f"sqlite:///{tmp_path}/{name}")


def test_a_server_without_its_driver(monkeypatch):
    """Where psycopg is not installed, one line says how to install it, and shows no URL."""
    for module in [name for name in sys.modules if name.startswith("authapi.database.postgresql")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.delattr(database, "postgresql", raising=False)
    monkeypatch.setitem(sys.modules, "psycopg", None)
    settings = Settings(
        database_url="postgresql://user:zzzzzz@host/name", secret_key=os.urandom(32).hex()
    )

    with pytest.raises(StartError, match=r"psycopg cannot be imported .*\[postgres\]") as refusal:
        open_database(settings)
    assert "\n" not in str(refusal.value)
    assert "zzzzzz" not in str(refusal.value)
