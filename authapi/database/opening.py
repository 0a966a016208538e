"""Opening the database that the settings name. This is the place that chooses the engine."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path

from authapi.database import Database, sqlite
from authapi.settings import DatabaseSettings, Settings


def open_database(settings: Settings) -> Database:
    """Open the settings' database, made if it is missing, and bring its schema up to date.

    Raises StartError.
    """
    return sqlite.open_database(settings)


def lacks_database(settings: Settings) -> bool:
    """Return whether `open_database` would make the database."""
    return sqlite.is_missing(settings.of(DatabaseSettings).database_path)


def open_replaced(path: Path) -> AbstractContextManager[Database]:
    """Open a database file that was replaced, to read from it. Its schema is left as it is.

    Raises Unavailable, in the block too, where the file cannot be read or lacks a table.
    """
    return sqlite.open_replaced(path)
