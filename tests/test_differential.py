"""Both engines alike: random calls of the named statements, with their results and the tables.

DIFFERENTIAL_CALLS says how many calls; faults try more.
"""

import os
import random
import sqlite3
from contextlib import closing

import pytest
from cluster import why_none
from engines import TABLES, PostgreSQLEngine, query

from authapi.database import UniqueViolation
from authapi.database.sqlite import SQLiteDatabase
from authapi.database.sqlite import migrate as migrate_file
from authapi.database.statements import load

if why_none():
    pytest.skip(why_none(), allow_module_level=True)

import psycopg

from authapi.database.postgresql import PostgreSQLDatabase, migrate
from authapi.database.postgresql.binding import positional

NO_SUCH_ROW = (sqlite3.IntegrityError, psycopg.errors.ForeignKeyViolation)
CALLS = int(os.environ.get("DIFFERENTIAL_CALLS", "5000"))
LOOK_EVERY = 250  # calls
NAMES = ("ada", "bob", "eve", "zoë", "名", "x1", "x2", "x3")
HASHES = [f"{number:064}" for number in range(60)]
TIMES = range(1_000, 1_060)

KINDS = {
    "id_hash new_id_hash replaced_by": HASHES,
    "id user_id": range(1, 9),
    "username username_key name lookalike": NAMES,
    "email email_key": [f"{name}@example.com" for name in NAMES],
    "password_hash": ["a", "b", None],
    "verified_hash new_hash": ["a", "b"],
    "now since seen_until created_at until": TIMES,
    "expires_at": range(1_040, 1_100),
    "second_factor_at verified_at email_verified_at": [None, *TIMES],
    "ip user_agent methods request_id event": ["", "x"],
    "detail session_id": ["x", None],
    "purpose": ["reset", "login", "outdated"],
    "link_hash code_hash binding nonce data": ["", "a", "b", "c"],
    "version": [None, 1, 2],
    "channel": ["mail", "other"],
    "kind address language error": ["", "a", "ä"],
    "due_at latest": TIMES,
    "claims after": range(4),
    "key kid": ["login:a", "login:b", "network:c"],
    "keys": ['["login:b"]', '["login:a","network:c","none"]'],
    "at_most": [1_000],
    "before": range(1, 400),
    "credentials_version password_version": [1, 2],
    "each": [0, 3, 30],
    "every": [10, 60],
    "in_a_row": [None, 1, 2, 5],
    "interval": [1, 7, 20],
    "window": [10, 60],
    "tries": [2, 5],
}
THERE = {
    **dict.fromkeys(("id", "user_id"), "SELECT id FROM users ORDER BY id"),
    "replaced_by": "SELECT id_hash FROM sessions ORDER BY id_hash",
}
VALUES = {name: values for names, values in KINDS.items() for name in names.split()}
# Which calls there are, and how often each.
WEIGHTS = {
    "audit": {
        "insert": 4,
        "of_user": 2,
        "has": 1,
        "newest_id": 1,
        "newest_time": 1,
        "newest_time_of": 1,
        "prune_nobodys": 1,
    },
    "jobs": {"claim": 3, "times": 1},
    "limits": {"take": 8, "states": 4, "give_back": 3, "clear": 1, "prune": 1},
    "one_time_tokens": {
        "insert": 6,
        "waiting": 1,
        "send": 6,
        "replace_older": 1,
        "has_newer": 1,
        "mark": 2,
        "is_outdated": 1,
        "by_link": 2,
        "consume": 2,
        "newest": 1,
        "take_try": 2,
        "of_user": 1,
        "end_purpose": 1,
        "end_newer": 1,
        "end_of_user": 1,
        "prune": 1,
    },
    "outbox": {
        "insert": 6,
        "waiting": 1,
        "first_due_at": 1,
        "claim": 2,
        "done": 2,
        "give_back": 1,
        "put_off": 1,
        "die": 2,
        "of_user": 1,
        "page": 1,
        "page_of_dead": 1,
        "revive": 1,
        "drop": 1,
        "forget_dead": 1,
        "prune": 1,
        "prune_expired": 1,
    },
    "replaced_sessions": {"add": 2, "has": 2, "forget": 1},
    "root_keys": {"add": 1, "has": 1, "has_any": 1},
    "sessions": {
        "insert": 12,
        "authenticate": 6,
        "of_user": 3,
        "exist": 1,
        "renew": 3,
        "rotate": 3,
        "revoke": 2,
        "revoke_all_but": 1,
        "revoke_unused": 2,
        "prune": 1,
    },
    "users": {
        "insert": 6,
        "by_username": 1,
        "by_email": 1,
        "by_id": 2,
        "by_session": 2,
        "is_username_taken": 1,
        "is_lookalike": 2,
        "add_lookalike": 2,
        "forget_lookalikes": 1,
        "is_email_taken": 1,
        "account": 1,
        "verify_email": 1,
        "claim": 1,
        "change_email": 2,
        "forget_password": 1,
        "rehash": 1,
        "change_password": 2,
        "raise_credentials_version": 1,
        "rename": 2,
        "delete": 1,
        "newest_id": 1,
    },
}
LEFT_OUT = {
    ("audit", "prune"): "the schema keeps rows for 90 days of the real time",
    ("users", "hold_name"): "it only waits for other transactions",
    ("users", "forget_newest_id"): "the test runs it",
    ("users", "remember_newest_id"): "the test runs it",
    ("one_time_tokens", "end_all"): "a restore runs it",
    ("sessions", "end_all"): "a restore runs it",
    ("users", "skip_versions"): "a restore runs it",
}
CHOICES = [(file, name) for file, names in WEIGHTS.items() for name in names]
FREQUENCIES = [WEIGHTS[file][name] for file, name in CHOICES]
PARAMETERS = {
    (file, name): positional(load(file, "postgresql")[name].sql)[1] for file, name in CHOICES
}


def drawn(rng, database, file, name, parameter):
    """Return a value for a parameter of a statement, often one that the tables have."""
    if parameter == "kept":
        return rng.choice([None, *HASHES] if name == "revoke_all_but" else [0, 1, 3])
    if (name, parameter) != ("insert", "id_hash") and parameter == "id_hash" and rng.random() < 0.8:
        parameter = "replaced_by"  # a live session's
    if (file, parameter) == ("audit", "id"):
        return None
    if (file, parameter) in {("users", "key"), ("jobs", "name")}:
        return rng.choice(NAMES)
    if file in {"one_time_tokens", "outbox"} and parameter in {"id", "user_id"}:
        table = "users" if parameter == "user_id" else file
        ids = query(database, f"SELECT id FROM {table} ORDER BY id", ())
        return rng.choice([None, *(number for (number,) in ids)])
    there = query(database, THERE[parameter], ()) if parameter in THERE else []
    if there and rng.random() < 0.9:
        return rng.choice(there)[0]
    return rng.choice(VALUES[parameter])


class Engine:
    """A database, with the results of calls in a form that can be compared."""

    def __init__(self, database):
        self.database = database
        self.files = {file: database.statements(file) for file in WEIGHTS}

    def call(self, file, name, parameters):
        """Run a statement as a transaction; return its result, or the column that was taken."""
        try:
            with self.database.transaction():
                return alike(getattr(self.files[file], name)(**parameters))
        except UniqueViolation as violation:  # of two, each engine tells another one first
            return violation.column.partition(".")[0]
        except NO_SUCH_ROW:
            return "no such row"

    def rows(self, table):
        """Return the rows of a table, without the order, times of the day, and ids of its own."""
        columns = ", ".join(COLUMNS[table].split())
        return sorted(map(repr, query(self.database, f"SELECT {columns} FROM {table}", ())))


COLUMNS = {
    "users": "id username username_key email email_key password_hash password_version"
    " credentials_version email_verified_at disabled_at",
    "username_lookalikes": "lookalike user_id",
    "sessions": "id_hash user_id created_at authenticated_at last_seen_at expires_at ip user_agent"
    " methods second_factor_at",
    "one_time_tokens": "id purpose user_id version data kid nonce link_hash code_hash binding tries"
    " created_at expires_at",
    "outbox": "id channel kind user_id address data language created_at expires_at due_at claims"
    " failures error died_at",
    "replaced_sessions": "id_hash replaced_by replaced_at",
    "audit_log": "id created_at event detail user_id session_id ip user_agent request_id",
    "limits": "key full_at tries kept_until",
    "jobs": "name due_at",
    "root_keys": "kid first_used_at",
}


def alike(result):
    """Return a result with lists of tuples, ints for booleans, and no times of the day."""
    if isinstance(result, list):
        return [alike(row) for row in result]
    if isinstance(result, tuple):
        return tuple(alike(value) for value in result)
    if isinstance(result, int):
        return "now" if result > 1_500_000_000 else int(result)
    return result


UNORDERED = {
    *(("sessions", "revoke_all_but"), ("sessions", "revoke_unused")),
    *(("jobs", "times"), ("limits", "states"), ("outbox", "claim")),
}


@pytest.mark.parametrize("seed", range(2))
def test_both_engines_alike(cluster, tmp_path, seed):
    """Whatever is called, both engines return the same and hold the same."""
    PostgreSQLEngine(cluster)  # empties it
    file, server = SQLiteDatabase(tmp_path / "authapi.db"), PostgreSQLDatabase(cluster.url)
    with closing(file), closing(server):
        migrate_file(file)
        migrate(server)
        query(file, "PRAGMA synchronous = OFF", ())
        both, rng = [Engine(file), Engine(server)], random.Random(seed)
        for number in range(CALLS // 2):
            ((place, name),) = rng.choices(CHOICES, FREQUENCIES)
            parameters = {
                each: drawn(rng, file, place, name, each) for each in PARAMETERS[place, name]
            }
            results = [engine.call(place, name, parameters) for engine in both]
            if (place, name) in UNORDERED:
                results = [sorted(result) for result in results]
            assert results[0] == results[1], (number, place, name, parameters)
            if (place, name) == ("users", "insert") and not isinstance(results[0], tuple):
                skip_gap(both)
            if number % LOOK_EVERY == 0 or number == CALLS // 2 - 1:
                for table in TABLES:
                    tables = [engine.rows(table) for engine in both]
                    assert tables[0] == tables[1], (number, table)


def skip_gap(both):
    """Leave out the ids that a sequence gave to rows that were refused; SQLite gives them again."""
    newest = both[1].files["users"].newest_id()
    for engine in both:
        with engine.database.transaction():
            engine.files["users"].forget_newest_id()
            engine.files["users"].remember_newest_id(id=newest)


def test_every_statement_is_called():
    """Each statement of both engines in these files is called, or left out for a reason."""
    found = {
        (file, name)
        for file in WEIGHTS
        for name in {*load(file, "sqlite")} & {*load(file, "postgresql")}
    }

    assert found - {*CHOICES} == {*LEFT_OUT}
