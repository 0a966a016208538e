"""Inspection: what is wrong with a database of a PostgreSQL server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from authapi.database import Row
from authapi.database.findings import Finding, drift, fault, ok, warn
from authapi.database.migrations import migrations
from authapi.database.postgresql.database import PostgreSQLDatabase
from authapi.database.postgresql.schema import apply, is_plain

MANY = 0.8  # of the server's connections


class _Undo(Exception):
    """Raised to undo a transaction."""


def inspect(database: PostgreSQLDatabase) -> Iterator[Finding]:
    """Yield what is found. Raises Unavailable."""
    yield ok("server", f"{database.description}.")
    yield from _transport(database)
    yield from _connections(database)
    yield from _drift(database)


def _transport(database: PostgreSQLDatabase) -> Iterator[Finding]:
    if mode := database.run(is_plain):
        yield warn(
            "transport",
            "The connection to the server is not safe from others on its way: add "
            f"?sslmode=verify-full to AUTHAPI_DATABASE_URL (now it is {mode}).",
        )
    else:
        yield ok("transport", "The server is on this machine, or its certificate is checked.")


def _connections(database: PostgreSQLDatabase) -> Iterator[Finding]:
    used, most = database.statements("contents").connections()
    text = f"{used} of the server's {most} connections (max_connections) are in use"
    if used > most * MANY:
        yield warn("connections", f"{text}: raise it, or lower AUTHAPI_DATABASE_CONNECTIONS.")
    else:
        yield ok("connections", f"{text}.")


def _drift(database: PostgreSQLDatabase) -> Iterator[Finding]:
    """Compare the schema with a fresh one, which is made in a transaction and undone."""
    contents, schemas = database.statements("contents"), database.statements("database")
    ledger = database.statements("migrations")
    version, known = ledger.newest() if ledger.has_ledger() else 0, migrations("postgresql")
    if not version:
        yield fault("drift", "The database has no tables yet: run authapi db migrate.")
        return
    if version > len(known):
        yield warn("drift", "The schema is newer than this release, and was not compared.")
        return
    if not schemas.may_make_schemas():
        yield warn(
            "drift",
            "The schema was not compared, because this user may not make another one: "
            "GRANT CREATE ON DATABASE.",
        )
        return
    wanted: list[Row] = []
    with suppress(_Undo), database.transaction(), database.without_deadline():
        schemas.make_fresh_schema()
        schemas.use_fresh_schema()
        ledger.create_ledger()
        for migration in known[:version]:
            apply(database, migration)
        wanted += contents.schema()
        raise _Undo
    yield from drift(contents.schema(), wanted, version)
