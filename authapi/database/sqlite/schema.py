"""Opening a SQLite file: it is made if it is missing, copied if it is old, and migrated."""

from __future__ import annotations

import json
import logging
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from authapi.database.migrations import Ledger, Migration, migrations
from authapi.database.sqlite.database import SQLITE_VERSION, SQLiteDatabase
from authapi.database.sqlite.drafts import clear_interrupted
from authapi.database.sqlite.errors import is_damaged
from authapi.database.sqlite.files import check_files, create_file, is_missing, restrict_files
from authapi.errors import StartError, Unavailable
from authapi.identifiers.usernames import lookalikes

OLDEST_SQLITE = (3, 38)  # has STRICT tables and unixepoch()
SMALLEST_FILE = 512  # bytes: one page

logger = logging.getLogger("authapi.migrations")


def migrate(
    database: SQLiteDatabase, known: Sequence[Migration] | None = None, *, copies: bool = True
) -> None:
    """Make the file if it is missing, and bring its schema up to date; first copy it.

    Each migration is one transaction together with its row in the ledger. Raises StartError, with
    nothing changed, for a file that cannot be used.
    """
    with _as_start_errors(database.path):
        _create(database)
        if database.path.is_file() and database.path.stat().st_nlink > 1:
            raise StartError(
                f"{database.path} has a second name (a hard link), under which SQLite would keep a "
                "second log: remove that name, or copy the file."
            )
        if not database.use_write_ahead_log():
            raise StartError(
                f"{database.path} cannot keep a write-ahead log: use a local file system."
            )
        known = migrations("sqlite") if known is None else known
        schema = _Schema(database, known)
        schema.complete_ledger()
        if copies:
            schema.copy_database()
        while schema.apply_next():
            pass
        restrict_files(database.real_path)


def _create(database: SQLiteDatabase) -> None:
    """Make the file for its owner alone; SQLite gives the log its mode. Raises StartError.

    SECURITY: never open and close one that exists, which would drop SQLite's locks on it.
    """
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        raise StartError(
            f"SQLite {SQLITE_VERSION} is too old: run a Python built with 3.38 or later."
        )
    check_files(database.real_path)
    # NOTE: SQLite takes a shorter file for an empty one, and would write over it.
    if not is_missing(database.path) and database.path.stat().st_size < SMALLEST_FILE:
        raise sqlite3.DatabaseError("it is too short")
    database.use_lock.share()
    clear_interrupted(database.real_path)
    create_file(database.real_path)


class _Schema:
    """The schema of one database."""

    def __init__(self, database: SQLiteDatabase, known: Sequence[Migration]) -> None:
        self._database = database
        self._statements = database.statements("migrations")
        self._ledger = Ledger(self._statements, known, str(database.path))

    def complete_ledger(self) -> None:
        """Add the column of the ledger that earlier releases did not have."""
        statements = self._statements
        if statements.has_ledger() and statements.lacks_needs():
            with self._database.transaction():
                if statements.lacks_needs():  # another process may have been quicker
                    statements.add_needs()

    def copy_database(self) -> None:
        """Copy a database whose schema is about to change: its older release can open the copy.

        The copy appears whole or not at all, for its owner alone. Raises StartError without room.
        """
        with self._database.writing():
            missing = self._ledger.missing() if self._statements.has_ledger() else []
            if not missing or not self._statements.has_users():  # another process may be making it
                return
            from authapi.database.sqlite.backup import keep_copy  # noqa: PLC0415 - few starts copy

            path = self._database.real_path
            copy = keep_copy(
                self._database, path.with_name(f"{path.name}.before-{missing[0].version:04d}")
            )
        logger.warning(
            "%s is updated from schema %d to %d; to go back, install the older release and run: "
            "authapi db restore %s",
            path,
            missing[0].version - 1,
            missing[-1].version,
            copy,
        )

    def apply_next(self) -> bool:
        """Apply one missing migration together with its row; return False where none is missing."""
        with self._database.transaction():
            return self._ledger.apply_next(self._apply)

    def _apply(self, migration: Migration) -> None:
        from authapi.database.sqlite.backup import shown  # noqa: PLC0415 - few starts migrate

        connection = self._database.connection
        connection.create_function(  # what migrations call and SQLite does not have
            "lookalikes", 1, lambda username: json.dumps(sorted(lookalikes(username)))
        )
        with shown(self._database, f"Migration {migration.name}"):
            for statement in split(migration.text):
                connection.execute(statement)


def split(script: str) -> Iterator[str]:
    """Yield the single statements of a script. A `;` inside a trigger does not end one."""
    pending = ""
    for line in script.splitlines(keepends=True):
        pending += line
        if sqlite3.complete_statement(pending):
            yield pending
            pending = ""


@contextmanager
def _as_start_errors(path: Path) -> Iterator[None]:
    """Turn what can be wrong with a database file at a start into StartError."""
    try:
        yield
    except (Unavailable, sqlite3.DatabaseError) as error:
        cause = error.__cause__ or error
        if not is_damaged(error):
            raise StartError(
                f"The database {path} cannot be used ({cause}): "
                "let this user write to it and its directory, or stop what keeps it locked."
            ) from error
        raise StartError(
            f"{path} is not a usable SQLite database ({cause}): "
            "move it away, or set another AUTHAPI_DATABASE_URL."
        ) from error
    except OSError as error:
        raise StartError(
            f"The database {path} cannot be written ({error.strerror}): make its directory and "
            "let this user write there, or set another AUTHAPI_DATABASE_URL."
        ) from error
