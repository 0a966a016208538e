"""PostgreSQL: the only package that imports psycopg, and it is imported for its URLs alone.

`schema` looks at a server and migrates it, `inspection` looks for faults, `database` runs
statements and transactions, `binding` turns named statements into psycopg's, `pool` lends
connections that `connections` opens, `circuit` refuses while the server is away, `errors` knows
what an error means.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager

import psycopg

from authapi.database.postgresql.database import PostgreSQLDatabase
from authapi.database.postgresql.inspection import inspect
from authapi.database.postgresql.schema import look_at, migrate
from authapi.errors import StartError
from authapi.settings import DatabaseSettings, Settings

__all__ = ["PostgreSQLDatabase", "inspect", "migrate", "open_as_it_is", "open_database"]


@contextmanager
def open_as_it_is(settings: Settings) -> Iterator[PostgreSQLDatabase]:
    """Open the settings' database; its schema may be older or newer. Raises StartError."""
    with closing(_unconnected(settings)) as database:
        look_at(database)
        yield database


def open_database(settings: Settings) -> PostgreSQLDatabase:
    """Open the settings' database, and bring its schema up to date. Raises StartError."""
    database = _unconnected(settings)
    try:
        migrate(database)
    except BaseException:
        database.close()
        raise
    return database


def _unconnected(settings: Settings) -> PostgreSQLDatabase:
    """Return the settings' database. Raises StartError for a URL that libpq cannot read."""
    group = settings.of(DatabaseSettings)
    try:
        return PostgreSQLDatabase(group.database_url, group.database_connections)
    except psycopg.ProgrammingError as error:  # SECURITY: it quotes a parameter's name at most
        said = " ".join(str(error).split())
        raise StartError(f"AUTHAPI_DATABASE_URL cannot be read ({said}).") from error
