"""SQLite: the only package that imports sqlite3.

`schema` opens and migrates a file, `database` runs statements and transactions on it,
`connections` holds a connection for each thread, `writer_lock` lets one writer in at a time,
`use_lock` tells whether a process uses a database, `file_identity` notices a replaced file, `files`
knows owners and modes, `errors` the result codes. `backup` copies a database and checks the copy,
`replacement` puts a backup in its place, `drafts` makes files that appear whole, `inspection` looks
for faults. `imports` reads the files of other systems.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from authapi.database.migrations import Ledger, migrations
from authapi.database.sqlite.database import SQLiteDatabase
from authapi.database.sqlite.errors import is_busy, translated
from authapi.database.sqlite.files import copies, is_database, is_missing
from authapi.database.sqlite.imports import (
    ForeignFile,
    KeySet,
    UnreadableFile,
    key_set,
    open_foreign,
)
from authapi.database.sqlite.schema import migrate
from authapi.errors import StartError, Unavailable
from authapi.settings import DatabaseSettings, Settings, WorkerSettings

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from authapi.database import Contents
    from authapi.database.findings import Finding
    from authapi.database.sqlite.replacement import Replacement

__all__ = [
    "ForeignFile",
    "KeySet",
    "SQLiteDatabase",
    "UnreadableFile",
    "back_up",
    "copies",
    "inspect",
    "is_missing",
    "key_set",
    "migrate",
    "open_as_it_is",
    "open_database",
    "open_exclusively",
    "open_foreign",
    "open_replaced",
    "replacing",
]


def open_database(settings: Settings) -> SQLiteDatabase:
    """Open the settings' file, made if it is missing, and migrate it. Raises StartError.

    Half of the service's threads may wait to write; the others go on answering.
    """
    path, threads = settings.of(DatabaseSettings).database_path, settings.of(WorkerSettings).threads
    database = SQLiteDatabase(path, most_waiting=threads // 2)
    try:
        database.is_new = is_missing(database.path)
        migrate(database)
    except BaseException:
        database.close()
        raise
    return database


@contextmanager
def open_as_it_is(path: Path) -> Iterator[SQLiteDatabase]:
    """Open a file beside a service, or without one. Its schema may be older or newer.

    Raises StartError where there is none, where it is another program's, or cannot be read.
    """
    if is_missing(path):
        raise StartError(
            f"There is no database {path}: run this with the settings of the service, in its "
            "directory."
        )
    with closing(SQLiteDatabase(path)) as database:
        try:
            database.use_lock.share()
            with translated():
                _ = database.connection
            is_ours = database.statements("migrations").has_ledger()
        except (OSError, Unavailable) as error:
            raise StartError(
                f"The database {path} cannot be read ({error.__cause__ or error}): run this as the "
                "user of the service, or restore a backup with authapi db restore."
            ) from error
        if not is_ours:
            raise StartError(f"{path} is not a database of authapi.")
        yield database


@contextmanager
def open_exclusively(path: Path) -> Iterator[SQLiteDatabase]:
    """Open a file that no other program uses or can open meanwhile, to read from it.

    Raises StartError where it is missing or in use, where its schema is not this program's, and
    where a row refers to none.
    """
    if is_missing(path):
        raise StartError(f"There is no database {path}.")
    from authapi.database.sqlite.backup import alone  # noqa: PLC0415 - for one command alone

    with closing(alone(path)) as database, ExitStack() as held:
        try:
            held.enter_context(database.use_lock.alone())
            with translated():
                _ = database.connection
            ledger = database.statements("migrations")
            is_ours = ledger.has_ledger() and not ledger.lacks_needs()
            orphan = database.statements("database").orphan()
            missing = is_ours and Ledger(ledger, migrations("sqlite"), str(path)).missing()
        except (OSError, Unavailable) as error:
            raise StartError(
                f"Another program uses {path}: stop it first."
                if is_busy(error)
                else f"The database {path} cannot be read ({error.__cause__ or error})."
            ) from error
        if not is_ours or missing:
            raise StartError(
                f"{path} is not a database of this release: start this release with it once, which "
                "updates it, and stop it again."
            )
        if orphan:
            raise StartError(
                f"{path} has rows in {orphan[0]} that belong to no row of {orphan[2]}: see PRAGMA "
                "foreign_key_check in sqlite3, and delete them."
            )
        yield database


@contextmanager
def open_replaced(path: Path) -> Iterator[SQLiteDatabase]:
    """Open a file that was replaced, to read from it. Its schema is left as it is.

    Raises Unavailable, in the block too, where the file cannot be read or lacks a table.
    """
    if not is_database(path):
        raise Unavailable from ValueError("it is not an SQLite database")
    with closing(SQLiteDatabase(path)) as database:
        try:
            yield database
        except sqlite3.DatabaseError as error:
            raise Unavailable from error


def back_up(database: SQLiteDatabase, target: Path) -> Contents:
    """Write a copy of a database to a new file; return what it holds. Raises StartError."""
    from authapi.database.sqlite import backup  # noqa: PLC0415 - for commands alone

    return backup.back_up(database, target)


def replacing(path: Path, source: Path) -> AbstractContextManager[Replacement]:
    """Copy a backup beside the database that it is to replace. Raises StartError."""
    from authapi.database.sqlite import replacement  # noqa: PLC0415 - for one command alone

    return replacement.replacing(path, source)


def inspect(database: SQLiteDatabase, *, deep: bool) -> Iterator[Finding]:
    """Yield what is found in a database that was opened as it is. Raises Unavailable."""
    from authapi.database.sqlite import inspection  # noqa: PLC0415 - for two commands alone

    return inspection.inspect(database, deep=deep)
