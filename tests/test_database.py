"""The data layer: migrations, transactions, the writer lock."""

import fcntl
import gc
import multiprocessing
import os
import re
import sqlite3
import stat
import threading

import pytest
from conftest import token_of
from databases import MIGRATIONS

from authapi import StartError
from authapi.database import UniqueViolation
from authapi.database.migrations import Migration
from authapi.database.sqlite import SQLiteDatabase, migrate
from authapi.database.sqlite.schema import split
from authapi.database.sqlite.writer_lock import time as lock_time
from authapi.database.statements import SQL
from authapi.errors import Unavailable


@pytest.fixture(name="path")
def _path(tmp_path):
    return tmp_path / "authapi.db"


@pytest.fixture(name="db")
def _db(path):
    db = SQLiteDatabase(path)
    migrate(db)
    yield db
    db.close()


def insert(db, name, email=None):
    email = email or name
    db.statements("users").insert(
        username=name, username_key=name, email=email, email_key=email, password_hash="x"
    )


def names(db):
    return [row[0] for row in db.connection.execute("SELECT username FROM users ORDER BY id")]


def pragma(db, name):
    return db.connection.execute(f"PRAGMA {name}").fetchone()[0]


def test_connection(db):
    """Every connection writes ahead, syncs in full, and holds to foreign keys."""
    assert (
        pragma(db, "journal_mode"),
        pragma(db, "synchronous"),
        pragma(db, "foreign_keys"),
        pragma(db, "trusted_schema"),
    ) == ("wal", 2, 1, 0)


def test_schema(db):
    """Tables are STRICT, and ids are never used again."""
    tables = db.connection.execute(
        "SELECT name, strict FROM pragma_table_list WHERE type = 'table'"
    )

    ours = {name: strict for name, strict in tables if not name.startswith("sqlite_")}
    assert {"users", "sessions", "migrations"} <= set(ours)
    assert set(ours.values()) == {1}
    ((users,),) = db.connection.execute("SELECT sql FROM sqlite_schema WHERE name = 'users'")
    assert "AUTOINCREMENT" in users


def test_file_mode(db, path):
    """The database, its logs and its lock are for their owner alone."""
    with db.transaction():
        insert(db, "a")

    files = list(path.parent.glob("authapi.db*"))
    assert {"authapi.db", "authapi.db-wal", "authapi.db-shm", "authapi.db.lock"} == {
        file.name for file in files
    }
    assert {0o600} == {stat.S_IMODE(file.stat().st_mode) for file in files}


def test_a_file_that_others_can_read(path, caplog):
    """A database that is found open to others is taken from them, and the log says so."""
    path.touch(mode=0o644)
    path.chmod(0o644)
    db = SQLiteDatabase(path)

    migrate(db)

    files = list(path.parent.glob("authapi.db*"))
    assert {0o600} == {stat.S_IMODE(file.stat().st_mode) for file in files}
    assert caplog.messages[0] == f"others could read {path} (mode 0644)"
    db.close()


def test_a_file_that_is_no_database_keeps_its_mode(path):
    """What turns out to be somebody's letter is not touched."""
    path.write_bytes(b"dear friend, " * 100)
    path.chmod(0o644)

    with pytest.raises(StartError):
        migrate(SQLiteDatabase(path))

    assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_a_database_that_is_gone(db, path):
    """A database that is deleted meanwhile is not made anew, without a schema and open to all."""
    db.prepare_to_fork()
    path.unlink()

    with pytest.raises(Unavailable), db.transaction():
        pass
    with pytest.raises(Unavailable):
        db.statements("migrations").applied()
    assert not path.exists()


def test_a_file_that_may_not_be_written(path, monkeypatch):
    """A database of another user's is refused by its real reason."""
    path.touch()
    monkeypatch.setattr(os, "access", lambda *_: False)

    with pytest.raises(StartError, match="Permission denied"):
        migrate(SQLiteDatabase(path))


def test_a_fork_inherits_nothing(make_app):
    """An application that was made carries no open connection into a server that forks."""
    database = make_app().core.database

    assert database.connections.opened == []


def test_a_connection_for_each_thread(db):
    """Threads do not share connections, and one that ends takes its own along."""
    seen = []
    thread = threading.Thread(target=lambda: seen.extend((db.connection, db.connection)))
    mine = db.connection
    thread.start()
    thread.join()

    assert seen[0] is seen[1] is not mine
    assert db.connection is mine
    seen.clear()
    gc.collect()
    assert db.connections.opened == [mine]


def test_transaction_commits(db, path):
    """What a transaction wrote is there for every other connection when it returns."""
    with db.transaction():
        insert(db, "a")

    other = SQLiteDatabase(path)
    assert names(other) == ["a"]
    other.close()


class Stop(Exception):
    pass


@pytest.mark.parametrize("error", [Stop, KeyboardInterrupt, SystemExit])
def test_transaction_rolls_back(db, error):
    """A failure leaves nothing half done, and the next transaction works."""
    with pytest.raises(error), db.transaction():
        insert(db, "a")
        raise error

    with db.transaction():
        insert(db, "b")
    assert names(db) == ["b"]


def test_transactions_do_not_nest(db):
    """One inside another is a mistake, said at once and not by a deadlock."""
    with pytest.raises(RuntimeError), db.transaction(), db.transaction():
        pass
    with db.transaction():
        insert(db, "a")


def test_unique_violation(db):
    """A collision names its column."""
    with db.transaction():
        insert(db, "a")

    with pytest.raises(UniqueViolation, match=r"users\.username_key"), db.transaction():
        insert(db, "a", "b")


def test_other_constraints_are_mistakes(db):
    """Another broken constraint is no collision, but our own fault."""
    with pytest.raises(sqlite3.IntegrityError), db.transaction():
        db.statements("users").insert(
            username=None, username_key="a", email="a", email_key="a", password_hash="x"
        )


def test_locked_by_another_program(db, path):
    """Where another program keeps the database locked a write is refused, and works again later."""
    db.lock_timeout = 0
    other = sqlite3.connect(path, isolation_level=None)
    db.connection.execute("PRAGMA busy_timeout = 0")
    other.execute("BEGIN IMMEDIATE")

    with pytest.raises(Unavailable) as refusal, db.transaction():
        insert(db, "a")

    other.close()
    with db.transaction():
        insert(db, "a")
    assert str(refusal.value.__cause__) == "database is locked"


def test_writers_take_turns(db):
    """A writer that gets no turn in time is refused."""
    db.lock_timeout = 0
    refused = []

    def write():
        try:
            with db.transaction():
                pass
        except Unavailable as error:
            refused.append(error)

    with db.transaction():
        thread = threading.Thread(target=write)
        thread.start()
        thread.join()

    assert len(refused) == 1


def test_writers_of_other_processes(db, path):
    """So it is while another process holds the lock file; and without one nobody writes."""
    db.lock_timeout = 0
    with open(f"{path}.lock", "w") as lock:  # noqa: PTH123
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(Unavailable), db.transaction():
            pass
    with db.transaction():
        pass

    path.with_name("authapi.db.lock").unlink()
    path.with_name("authapi.db.lock").mkdir()
    with pytest.raises(Unavailable), db.transaction():
        pass


def test_a_writer_waits_for_another_process(db, path, monkeypatch):
    """A writer gets its turn when the other process is done."""
    with open(f"{path}.lock", "w") as lock:  # noqa: PTH123
        fcntl.flock(lock, fcntl.LOCK_EX)
        monkeypatch.setattr(lock_time, "sleep", lambda _: lock.close())
        with db.transaction():
            insert(db, "a")

    assert names(db) == ["a"]


def test_unavailable_on_the_wire(client):
    """A client is told to come back; nothing is half done."""
    client.register()
    client.app.core.database.lock_timeout = 0

    with client.app.core.database.writer_lock.hold(0):
        answer = client.log_in()

    assert (
        answer.status_code,
        answer.json["error"],
        answer.headers["retry-after"],
    ) == (503, "unavailable", "1")
    assert client.log_in().status_code == 200


def test_migrations_are_in_order():
    """Versions count from 1 without a gap, and the names say what they are."""
    assert list(range(1, len(MIGRATIONS) + 1)) == [each.version for each in MIGRATIONS]


def test_the_ledger(db):
    """Each migration is recorded with its checksum; a second start changes nothing."""
    recorded = db.connection.execute("SELECT version, name, checksum FROM migrations").fetchall()
    assert [(each.version, each.name, each.checksum) for each in MIGRATIONS] == recorded

    before = db.connection.execute("PRAGMA data_version").fetchone()
    again = SQLiteDatabase(db.path)
    migrate(again)
    again.close()
    assert before == db.connection.execute("PRAGMA data_version").fetchone()


def test_edited_migration(db):
    """A migration that was edited after it ran stops the start."""
    db.connection.execute("UPDATE migrations SET checksum = 'x' WHERE version = 2")

    with pytest.raises(StartError, match="0002_sessions was edited"):
        migrate(db)


def test_newer_database(db):
    """A database of a newer release stops the start."""
    db.connection.execute("INSERT INTO migrations VALUES (9999, '9999_future', 'x', 0)")

    with pytest.raises(StartError, match="newer than this program .it has 9999_future.: run"):
        migrate(db)


def test_a_migration_is_all_or_nothing(path):
    """A migration that fails in the middle leaves neither its changes nor its row."""
    good = Migration(1, "0001_one", "CREATE TABLE users (a INTEGER) STRICT;\n")
    bad = Migration(
        2, "0002_two", "CREATE TABLE two (a INTEGER) STRICT;\nINSERT INTO nowhere VALUES (1);\n"
    )
    db = SQLiteDatabase(path)

    with pytest.raises(StartError, match="no such table: nowhere"):
        migrate(db, [good, bad])

    tables = db.connection.execute("SELECT name FROM sqlite_schema ORDER BY name").fetchall()
    assert tables == [("migrations",), ("users",)]
    migrate(db, [good, Migration(2, "0002_two", "CREATE TABLE two (b INTEGER);")])
    assert db.connection.execute("SELECT version FROM migrations").fetchall() == [(1,), (2,)]
    db.close()


def test_triggers_are_one_statement():
    """A `;` inside a trigger does not end the statement."""
    statements = list(split(MIGRATIONS[0].text))

    assert len(statements) == 4
    assert "END;" in statements[-1]


def migrate_and_register(path, barrier, results):
    db = SQLiteDatabase(path)
    barrier.wait()
    migrate(db)
    with db.transaction():
        insert(db, f"user{os.getpid()}")
    results.put(os.getpid())
    db.close()


def test_two_processes_start_at_once(path):
    """Processes that start at once on an empty database leave one correct schema, and both work."""
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
    db = SQLiteDatabase(path)
    assert {f"user{results.get()}" for _ in processes} == set(names(db))
    assert pragma(db, "integrity_check") == "ok"
    versions = db.connection.execute("SELECT version FROM migrations").fetchall()
    assert versions == [(each.version,) for each in MIGRATIONS]
    db.close()


@pytest.mark.parametrize("text", [b"no database at all, but long enough" * 40, b"x"])
def test_no_database(path, text):
    """A file that is no database stops the start, and is left alone."""
    path.write_bytes(text)

    with pytest.raises(StartError, match="no SQLite database that can be used"):
        migrate(SQLiteDatabase(path))

    assert text == path.read_bytes()


def test_database_of_another_program(path):
    """A database that holds somebody else's tables is left alone."""
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE cookies (a)")
    other.close()

    with pytest.raises(StartError, match="database of another program"):
        migrate(SQLiteDatabase(path))

    other = sqlite3.connect(path)
    assert other.execute("SELECT name FROM sqlite_schema").fetchall() == [("cookies",)]
    other.close()


@pytest.mark.parametrize(
    "where", ["/proc/authapi.db", "/proc/nowhere/authapi.db", "/dev/null/x.db"]
)
def test_directory_that_cannot_be_written(tmp_path, where):
    """A directory that is not there, or cannot be written, stops the start."""
    with pytest.raises(StartError, match="cannot be written"):
        migrate(SQLiteDatabase(tmp_path / where))


def test_a_directory_is_no_database(tmp_path):
    """A path that is a directory stops the start."""
    with pytest.raises(StartError, match="is a directory: name a file in it"):
        migrate(SQLiteDatabase(tmp_path))


def test_old_sqlite(path, monkeypatch):
    """An SQLite without STRICT tables or unixepoch() stops the start, before there is a file."""
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 37, 2))

    with pytest.raises(StartError, match="too old"):
        migrate(SQLiteDatabase(path))

    assert not path.exists()


def test_no_write_ahead_log(path, monkeypatch):
    """A file system that cannot keep the log stops the start."""
    monkeypatch.setattr(SQLiteDatabase, "use_write_ahead_log", lambda _: False)
    db = SQLiteDatabase(path)

    with pytest.raises(StartError, match="write-ahead log"):
        migrate(db)
    db.close()


def test_nothing_is_answered_before_it_is_kept(client, monkeypatch):
    """Where the commit fails there is no success, no cookie and no row."""
    client.register()
    connection = type(client.app.core.database.connection)

    def fail(_):
        raise Stop

    monkeypatch.setattr(connection, "commit", fail, raising=False)
    answer = client.log_in()

    assert (answer.status_code, bool(answer.cookies)) == (500, False)
    monkeypatch.undo()
    assert client.query("SELECT count(*) FROM sessions") == [(1,)]
    assert client.get_as(token_of(client.log_in())).status_code == 200


def plans(database):
    """How SQLite runs each named statement: file, name, and the steps of its plan."""
    for path in sorted([*SQL.glob("queries/*.sql"), *SQL.glob("sqlite/queries/*.sql")]):
        statements = database.statements(path.stem)
        for name in re.findall(r"^-- name: (\w+)\(", path.read_text(), re.MULTILINE):
            text = getattr(statements, name).sql
            if re.search(r"^(SELECT|INSERT|UPDATE|DELETE)", text, re.MULTILINE):
                parameters = dict.fromkeys(re.findall(r":(\w+)", text), 1)
                rows = database.connection.execute(f"EXPLAIN QUERY PLAN {text}", parameters)
                yield path.stem, name, [step for *_, step in rows]


def test_no_statement_scans(client):
    """Every statement finds its rows by an index, but for those of a start or a restore."""
    found = list(plans(client.app.core.database))

    scans = {
        (file, name)
        for file, name, steps in found
        if any(re.match("SCAN (?!CONSTANT ROW)", step) for step in steps)
    }
    searches = {
        (file, name)
        for file, name, steps in found
        if any(step.startswith("SEARCH") for step in steps)
    }
    writes = {("audit", "insert"), ("users", "insert"), ("migrations", "record")}
    writes |= {("limits", "take"), ("users", "add_lookalike"), ("users", "remember_newest_id")}
    of_a_start = ("has_ledger", "is_empty", "has_users", "applied")
    of_a_restore = {("users", "newest_id"), ("users", "forget_newest_id")}
    of_a_restore |= {("users", "skip_versions"), ("sessions", "end_all")}
    assert {("migrations", name) for name in of_a_start} | of_a_restore == scans
    assert {(file, name) for file, name, _ in found} == scans | searches | writes


def test_session_check_is_two_searches(client):
    """The statement of the session check is two index searches, the first unique."""
    found = {(file, name): steps for file, name, steps in plans(client.app.core.database)}

    assert found["sessions", "authenticate"] == [
        "SEARCH sessions USING INDEX sqlite_autoindex_sessions_1 (id_hash=?)",
        "SEARCH users USING INTEGER PRIMARY KEY (rowid=?)",
    ]


def test_after_commit(db):
    """What is to follow a commit follows a commit alone, in order; at once outside of one."""
    done = []
    with db.transaction():
        db.after_commit(lambda: done.append(db.connection.in_transaction))
        db.after_commit(lambda: done.append("second"))
        assert done == []
    assert done == [False, "second"]

    with pytest.raises(ZeroDivisionError), db.transaction():
        db.after_commit(lambda: done.append("lost"))
        raise ZeroDivisionError
    db.after_commit(lambda: done.append("at once"))
    with db.transaction():
        pass
    assert done == [False, "second", "at once"]


def test_patience(db, path):
    """A transaction that is to wait for nothing gives up where another thread or process writes."""
    with db.writer_lock.hold(0), pytest.raises(Unavailable), db.transaction(patience=0):
        pass
    with path.with_name(f"{path.name}.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(Unavailable), db.transaction(patience=0):
            pass
    with db.transaction(patience=0):
        insert(db, "a")
