"""Opening a PostgreSQL database: whether the service can use it, and its migrations."""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

import psycopg

from authapi.database.migrations import Ledger, Migration, migrations
from authapi.database.postgresql.connections import Connection
from authapi.database.postgresql.database import PostgreSQLDatabase
from authapi.database.postgresql.errors import advice
from authapi.database.progress import progress
from authapi.errors import StartError, Unavailable

OLDEST_SERVER = 14
READ_COMMITTED = "read committed"

logger = logging.getLogger("authapi.database")


def migrate(database: PostgreSQLDatabase, known: Sequence[Migration] | None = None) -> None:
    """Look at the server, and bring the schema up to date.

    One node at a time does so, in one transaction. Raises StartError, with nothing changed, for a
    database that cannot be used.
    """
    with _as_start_errors():
        database.description = database.run(_checked)
        database.run(_warn_of_plain_text)
        statements, lock = database.statements("migrations"), database.statements("database")
        ledger = Ledger(
            statements, migrations("postgresql") if known is None else known, database.description
        )
        with database.transaction(), database.without_deadline():
            if lock.isolation() != READ_COMMITTED:
                raise StartError(
                    f"{database.description} does not give the isolation level READ COMMITTED: "
                    "allow it, or use another server."
                )
            lock.wait_without_end()
            statements.lock()
            database.is_new = not statements.has_ledger()
            missing = [] if database.is_new else ledger.missing()
            while ledger.apply_next(lambda migration: apply(database, migration)):
                pass
    if missing:
        logger.warning(
            "%s is updated from schema %d to %d",
            database.description,
            missing[0].version - 1,
            missing[-1].version,
        )


def look_at(database: PostgreSQLDatabase) -> None:
    """Look whether the service can use the server. Raises StartError."""
    with _as_start_errors():
        database.description = database.run(_checked)


def apply(database: PostgreSQLDatabase, migration: Migration) -> None:
    """Run a migration in the thread's transaction."""

    def execute(connection: Connection) -> None:
        connection.execute(migration.text.encode(), prepare=False)

    with progress(f"Migration {migration.name}") as tick:
        database.run(execute)
        tick()


def _checked(connection: Connection) -> str:
    """Return the description of a server that the service can use. Raises StartError."""
    info = connection.info
    version = f"PostgreSQL {info.parameter_status('server_version')}"
    place = f"{info.dbname} at {info.host}:{info.port}, {version}"
    if info.server_version < OLDEST_SERVER * 10_000:
        raise StartError(f"The database {place} is too old: use {OLDEST_SERVER} or later.")
    if info.parameter_status("server_encoding") != "UTF8":
        raise StartError(
            f"The database {place} has the encoding {info.parameter_status('server_encoding')}: "
            "make another one with CREATE DATABASE … ENCODING 'UTF8'."
        )
    if info.parameter_status("default_transaction_read_only") == "on":
        raise StartError(
            f"The database {place} can only be read: name the primary in AUTHAPI_DATABASE_URL, "
            "or all servers."
        )
    return place


def _warn_of_plain_text(connection: Connection) -> None:
    if mode := is_plain(connection):
        logger.warning(
            "the connection to the database at %s is not safe from others on its way: "
            "add ?sslmode=verify-full to AUTHAPI_DATABASE_URL (now it is %s)",
            connection.info.host,
            mode,
        )


def is_plain(connection: Connection) -> str | None:
    """Return the sslmode of a server elsewhere whose certificate is not checked, or None.

    SECURITY: whoever is on the way could answer in its place, and read and change everything.
    NOTE: `get_parameters` of psycopg raises for a user without a home directory.
    """
    info = connection.info
    modes = [each.val for each in connection.pgconn.info if each.keyword == b"sslmode"]
    mode = (modes[0] or b"prefer").decode()
    return None if _is_here(info.hostaddr or info.host) or mode == "verify-full" else mode


def _is_here(host: str) -> bool:
    """Return whether a host is this machine: a directory of sockets, or a loopback address."""
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return not host or host.startswith(("/", "@")) or host == "localhost"


@contextmanager
def _as_start_errors() -> Iterator[None]:
    """Turn what can be wrong with a server at a start into StartError."""
    try:
        yield
    except (Unavailable, psycopg.Error) as error:
        cause = error.__cause__ or error
        said = " ".join(str(cause).split())
        raise StartError(f"The database cannot be used ({said}): {advice(cause)}.") from error
