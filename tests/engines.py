"""The databases that tests run on: a SQLite file, and a PostgreSQL server for what both must do."""

import importlib.util
import itertools
import re
import shutil
import sqlite3

import pytest
from cluster import Cluster

from authapi import Settings
from authapi.database.opening import open_database

REFUSALS = (sqlite3.IntegrityError,)  # what the schema refuses
if importlib.util.find_spec("psycopg"):
    import psycopg

    from authapi.database.postgresql.connections import Deadlines

    PATIENT = Deadlines(connect=30, change=30, check=30)
    REFUSALS += (psycopg.errors.RaiseException, psycopg.errors.IntegrityError)
    REFUSALS += (psycopg.errors.GeneratedAlways,)

# Tests of what the service does run on both engines; the others are about something else.
BOTH = {
    f"test_{name}"
    for name in (
        *("accounts", "attackers", "audit", "body_tokens", "budget_rows", "cross_site", "devices"),
        "exports",
        *("forward_auth", "imports", "key_commands"),
        *(
            "database_check",
            "database_status",
            "doctor",
            "mail",
            "password_reset",
            "mail_commands",
            "mail_limits",
            "outbox",
            "smtp",
            "claims",
            "security_notices",
            "email_verification",
            "registration_by_mail",
            "pending_registrations",
            "pre_hijacking",
            "mailed_proofs",
            "email_change",
            "email_undo",
            "mail_login",
            "bound_proofs",
        ),
        *("jobs", "limits", "lockout", "login", "logout", "model", "network_limits"),
        "one_time_tokens",
        *(
            "password_change",
            "presented_tokens",
            "protect_asgi",
            "races",
            "reauthentication",
            "registration",
        ),
        *("renewal", "replaced_sessions", "replay", "second_factor", "session_list", "sessions"),
        *("sign_in", "user_export", "usernames", "users", "wrong_clock"),
        *("audit_commands", "session_commands", "unlock", "user_changes", "user_look_up"),
        "user_management",
        "user_passwords",
    )
}
SECRET = "8f2d1c6b7a90e35f4d2c1b0a9988776655443322110f1e2d3c4b5a6978"
TABLES = (
    *("one_time_tokens", "replaced_sessions", "username_lookalikes", "sessions", "users"),
    *("audit_log", "limits", "jobs", "root_keys", "outbox"),
)


def engines_of(metafunc):
    """Return the engines that a test runs on."""
    if metafunc.module.__name__ in BOTH and not metafunc.definition.get_closest_marker("sqlite"):
        return ["sqlite", "postgresql"]
    return ["sqlite"]


def query(database, statement, parameters):
    """Run a statement of a test, with `?` for its parameters, and return its rows."""
    if database.is_local:
        return database.connection.execute(statement, parameters).fetchall()
    numbers = itertools.count(1)
    text = re.sub(r"\?", lambda _: f"${next(numbers)}", statement).encode()

    def execute(connection):
        cursor = connection.execute(text, parameters)
        return cursor.fetchall() if cursor.description else []

    return database.run(execute)


class SQLiteEngine:
    """A file in a test's own directory. `migrated` is a file that has the schema."""

    def __init__(self, directory, migrated):
        self._file, self._migrated = directory / "authapi.db", migrated
        self._url = f"sqlite:///{self._file}"

    def settings(self, **values):
        """Return the values of settings for the database, and others."""
        return {"database_url": self._url, **values}

    def create_schema(self):
        """Copy a file that has the schema, unless there is one: quicker than each migration."""
        if not any(self._file.parent.iterdir()):
            self._file.touch(mode=0o600)
            shutil.copyfile(self._migrated, self._file)

    def prepare(self, database):
        """Sync nothing to the disk: tests of power cuts and kills start processes."""
        if database.is_local:
            database.connections.setup += "PRAGMA synchronous = OFF;"


class PostgreSQLEngine:
    """A database of the run's server, which is empty at the beginning of each test."""

    def __init__(self, cluster: Cluster):
        self._url = cluster.url
        self._empty()

    def settings(self, **values):
        """Return the values of settings for the database, and others."""
        keys = {} if {"secret_key", "secret_key_file", "key_file"} & {*values} else SHARED
        return {"database_url": self._url, **keys, **values}

    def create_schema(self):
        """Do nothing: the schema stays from one test to the next."""

    def prepare(self, database):
        """Wait longer for answers: the machine of a test may be busy."""
        database.deadlines = PATIENT

    def _empty(self):
        """Delete all rows; where a test has changed the schema, or there is none, begin anew."""
        with psycopg.connect(self._url, autocommit=True) as connection:
            tables = [name for (name,) in connection.execute(SCHEMA_TABLES)]
            triggers = connection.execute(TRIGGERS).fetchone()
            if tables != sorted([*TABLES, "migrations"]) or triggers != (5,):
                connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
                return
            deletions = "; ".join(f"DELETE FROM {table}" for table in TABLES)
            connection.execute(
                f"SET session_replication_role = replica; {deletions};"
                " SELECT setval('users_id_seq', 1, false), setval('sessions_id_seq', 1, false),"
                " setval('audit_log_id_seq', 1, false), setval('outbox_id_seq', 1, false),"
                " setval('one_time_tokens_id_seq', 1, false)"
            )


SCHEMA_TABLES = (
    "SELECT relname FROM pg_class"
    " WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace ORDER BY relname"
)
TRIGGERS = "SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal"
SHARED = {"secret_key": SECRET}


@pytest.fixture(name="migrated", scope="session")
def _migrated(tmp_path_factory):
    """Return a SQLite file that has the schema, and nothing else."""
    path = tmp_path_factory.mktemp("migrated") / "authapi.db"
    open_database(Settings(database_url=f"sqlite:///{path}")).close()
    return path


@pytest.fixture(name="engine")
def _engine(request, tmp_path, monkeypatch, migrated):
    """Return the engine of a test."""
    if getattr(request, "param", "sqlite") == "sqlite":
        return SQLiteEngine(tmp_path, migrated)
    monkeypatch.setenv("AUTHAPI_SECRET_KEY", SECRET)  # for commands
    return PostgreSQLEngine(request.getfixturevalue("cluster"))
