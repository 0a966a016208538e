"""SQLite: the only package that imports sqlite3.

`schema` opens and migrates a file, `database` runs statements and transactions on it,
`connections` holds a connection for each thread, `writer_lock` lets one writer in at a time,
`file_identity` notices a replaced file, `files` knows owners and modes, `errors` the result codes.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from authapi.database.sqlite.database import SQLiteDatabase
from authapi.database.sqlite.files import is_missing
from authapi.database.sqlite.schema import migrate
from authapi.errors import Unavailable
from authapi.settings import DatabaseSettings, Settings, WorkerSettings

__all__ = ["SQLiteDatabase", "is_missing", "migrate", "open_database", "open_replaced"]


def open_database(settings: Settings) -> SQLiteDatabase:
    """Open the settings' file, made if it is missing, and migrate it. Raises StartError.

    Half of the service's threads may wait to write; the others go on answering.
    """
    path, threads = settings.of(DatabaseSettings).database_path, settings.of(WorkerSettings).threads
    database = SQLiteDatabase(path, most_waiting=threads // 2)
    database.is_new = is_missing(database.path)
    try:
        migrate(database)
    except BaseException:
        database.close()
        raise
    return database


@contextmanager
def open_replaced(path: Path) -> Iterator[SQLiteDatabase]:
    """Open a file that was replaced, to read from it. Its schema is left as it is.

    Raises Unavailable, in the block too, where the file cannot be read or lacks a table.
    """
    with closing(SQLiteDatabase(path)) as database:
        try:
            yield database
        except sqlite3.DatabaseError as error:
            raise Unavailable from error
