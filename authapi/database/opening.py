"""Opening the database that the settings name. This is the place that chooses the engine."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path

from authapi.database import Database, sqlite
from authapi.errors import StartError
from authapi.settings import DatabaseSettings, Settings


def open_database(settings: Settings) -> Database:
    """Open the settings' database, made if it is missing, and bring its schema up to date.

    Raises StartError.
    """
    if not settings.of(DatabaseSettings).is_postgresql:
        return sqlite.open_database(settings)
    try:
        from authapi.database import postgresql  # noqa: PLC0415 - psycopg takes 11 MiB
    except ImportError as error:
        raise StartError(
            f"AUTHAPI_DATABASE_URL names a PostgreSQL server, and psycopg cannot be imported "
            f"({' '.join(str(error).split())}): install the extra, as by "
            "pip install '.[postgres]' in a clone."
        ) from error
    return postgresql.open_database(settings)


def lacks_database(settings: Settings) -> bool:
    """Return whether `open_database` would make the database file."""
    group = settings.of(DatabaseSettings)
    return not group.is_postgresql and sqlite.is_missing(group.database_path)


def open_exclusively(path: Path) -> AbstractContextManager[Database]:
    """Open a database file that no other program uses or can open meanwhile, to read from it.

    Raises StartError where it is missing or in use, and where its schema is not this program's.
    """
    return sqlite.open_exclusively(path)


def open_replaced(path: Path) -> AbstractContextManager[Database]:
    """Open a database file that was replaced, to read from it. Its schema is left as it is.

    Raises Unavailable, in the block too, where the file cannot be read or lacks a table.
    """
    return sqlite.open_replaced(path)
