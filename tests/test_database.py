"""The database: connections, transactions, and how statements find their rows."""

import gc
import re
import sqlite3

import pytest
from databases import in_a_thread, opened, usernames

from authapi.database import UniqueViolation
from authapi.database.statements import SQL, load
from authapi.errors import Unavailable


@pytest.fixture(name="path")
def _path(tmp_path):
    return tmp_path / "authapi.db"


@pytest.fixture(name="db")
def _db(path):
    db = opened(path)
    yield db
    db.close()


def insert(db, name, email=None):
    email = email or name
    db.statements("users").insert(
        username=name,
        username_key=name,
        email=email,
        email_key=email,
        password_hash="x",
        email_verified_at=None,
    )


def names(db):
    return [row[0] for row in db.connection.execute("SELECT username FROM users ORDER BY id")]


def pragma(db, name):
    return db.connection.execute(f"PRAGMA {name}").fetchone()[0]


def test_connection(db):
    """Every connection uses a write-ahead log, full synchronization and foreign keys."""
    assert (
        pragma(db, "journal_mode"),
        pragma(db, "synchronous"),
        pragma(db, "foreign_keys"),
        pragma(db, "trusted_schema"),
    ) == ("wal", 2, 1, 0)


def test_a_fork_inherits_nothing(make_app):
    """A new application has no open connection, so a server can fork."""
    database = make_app().core.database

    assert database.connections.opened == []


def test_a_connection_for_each_thread(db):
    """Each thread has its own connection, which is closed when the thread ends."""
    mine = db.connection
    theirs, again = in_a_thread(lambda: (db.connection, db.connection))

    assert theirs is again is not mine
    assert db.connection is mine
    del theirs, again
    gc.collect()
    assert db.connections.opened == [mine]


def test_transaction_commits(db, path):
    """When a transaction returns, every other connection sees what it wrote."""
    with db.transaction():
        insert(db, "a")

    assert usernames(path) == ["a"]


class Stop(Exception):
    pass


@pytest.mark.parametrize("error", [Stop, KeyboardInterrupt, SystemExit])
def test_transaction_rolls_back(db, error):
    """An exception undoes the transaction, and the next transaction works."""
    with pytest.raises(error), db.transaction():
        insert(db, "a")
        raise error

    with db.transaction():
        insert(db, "b")
    assert names(db) == ["b"]


def test_transactions_do_not_nest(db):
    """A transaction inside another raises RuntimeError, and does not deadlock."""
    with pytest.raises(RuntimeError), db.transaction(), db.transaction():
        pass
    with db.transaction():
        insert(db, "a")


def test_unique_violation(db):
    """UniqueViolation names the column."""
    with db.transaction():
        insert(db, "a")

    with pytest.raises(UniqueViolation, match=r"users\.username_key"), db.transaction():
        insert(db, "a", "b")


def test_other_constraints_are_mistakes(db):
    """Any other broken constraint is an error of the program."""
    with pytest.raises(sqlite3.IntegrityError), db.transaction():
        db.statements("users").insert(
            username=None,
            username_key="a",
            email="a",
            email_key="a",
            password_hash="x",
            email_verified_at=None,
        )


def test_after_commit(db):
    """Actions run after the commit, in order, and never after a failure; outside one, at once."""
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


def test_patience(db):
    """A transaction without patience is refused while another thread writes."""
    with db.writer_lock.hold(0), pytest.raises(Unavailable), db.transaction(patience=0):
        pass
    with db.transaction(patience=0):
        insert(db, "a")


def plans(database):
    """Yield the file, name and query plan of each named statement."""
    for path in sorted([*SQL.glob("queries/*.sql"), *SQL.glob("sqlite/queries/*.sql")]):
        statements = load(path.stem, "sqlite")
        for name in re.findall(r"^-- name: (\w+)\(", path.read_text(), re.MULTILINE):
            text = statements[name].sql
            if re.search(r"^(SELECT|INSERT|UPDATE|DELETE)", text, re.MULTILINE):
                parameters = dict.fromkeys(re.findall(r":(\w+)", text), 1)
                rows = database.connection.execute(f"EXPLAIN QUERY PLAN {text}", parameters)
                yield path.stem, name, [step for *_, step in rows]


def test_no_statement_scans(client):
    """Every statement uses an index, but at a start, in an operator's command, and on few rows."""
    found = list(plans(client.app.core.database))

    scans = {
        (file, name)
        for file, name, steps in found
        if any(re.match("SCAN (?!CONSTANT ROW|json_each)", step) for step in steps)
    }
    searches = {
        (file, name)
        for file, name, steps in found
        if any(step.startswith("SEARCH") for step in steps)
    }
    writes = {("audit", "insert"), ("users", "insert"), ("migrations", "record")}
    writes |= {
        ("jobs", "claim"),
        ("limits", "take"),
        ("one_time_tokens", "insert"),
        ("one_time_tokens", "mark"),
        ("outbox", "insert"),
        ("replaced_sessions", "add"),
        ("root_keys", "add"),
        ("users", "add_lookalike"),
        ("users", "remember_newest_id"),
    }
    of_a_start = ("has_ledger", "is_empty", "has_users", "applied", "lacks_needs")
    of_a_restore = {("users", "newest_id"), ("users", "forget_newest_id")}
    of_a_restore |= {("users", "skip_versions"), ("sessions", "end_all")}
    of_a_restore |= {("one_time_tokens", "end_all")}
    of_a_start = {("migrations", name) for name in of_a_start}
    of_few_rows = {("jobs", "times"), ("root_keys", "has_any"), ("outbox", "waiting")}
    of_a_command = {("contents", "users"), ("contents", "sessions"), ("database", "faults")}
    of_a_command |= {("commands", "has_event"), ("database", "quick_faults"), ("outbox", "of_user")}
    of_a_command |= {("contents", "bytes"), ("contents", "schema")}
    of_a_copy = {("copy", "root_keys"), ("copy", "replaced_sessions")}
    assert of_a_start | of_a_restore | of_a_copy | of_a_command | of_few_rows == scans
    of_no_rows = {("users", "hold_name"), ("imports", "continue_ids"), ("database", "lock_users")}
    assert {(file, name) for file, name, _ in found} == scans | searches | writes | of_no_rows


def test_session_check_is_two_searches(client):
    """The statement of the session check is two index searches, the first unique."""
    found = {(file, name): steps for file, name, steps in plans(client.app.core.database)}

    assert found["sessions", "authenticate"] == [
        "SEARCH sessions USING INDEX sqlite_autoindex_sessions_1 (id_hash=?)",
        "SEARCH users USING INTEGER PRIMARY KEY (rowid=?)",
    ]
