"""Opening the database that the settings name. This is the place that chooses the engine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from authapi.database import Contents, Database, sqlite
from authapi.database.migrations import Ledger, Migration, migrations
from authapi.database.sqlite import ForeignFile, KeySet, UnreadableFile
from authapi.errors import StartError
from authapi.settings import DatabaseSettings, Settings

if TYPE_CHECKING:
    from authapi.database.findings import Finding
    from authapi.database.sqlite.replacement import Replacement

__all__ = ["ForeignFile", "KeySet", "UnreadableFile"]


def open_database(settings: Settings) -> Database:
    """Open the settings' database, made if it is missing, and bring its schema up to date.

    Raises StartError.
    """
    if not settings.of(DatabaseSettings).is_postgresql:
        return sqlite.open_database(settings)
    return _postgresql().open_database(settings)  # type: ignore[no-any-return]


def _postgresql() -> ModuleType:
    try:
        from authapi.database import postgresql  # noqa: PLC0415 - psycopg takes 11 MiB
    except ImportError as error:
        raise StartError(
            f"AUTHAPI_DATABASE_URL names a PostgreSQL server, and psycopg cannot be imported "
            f"({' '.join(str(error).split())}): install the extra, as by "
            "pip install '.[postgres]' in a clone."
        ) from error
    return postgresql


def open_as_it_is(settings: Settings) -> AbstractContextManager[Database]:
    """Open the settings' database, beside a service or without one, and leave its schema.

    Raises StartError where there is none.
    """
    group = settings.of(DatabaseSettings)
    if not group.is_postgresql:
        return sqlite.open_as_it_is(group.database_path)
    return _postgresql().open_as_it_is(settings)  # type: ignore[no-any-return]


def missing_migrations(database: Database) -> Sequence[Migration]:
    """Return the migrations that a database has not had, oldest first.

    Raises StartError where one of its own was edited, or where it needs a newer program than this.
    """
    known = migrations("sqlite" if database.is_local else "postgresql")
    ledger = database.statements("migrations")
    if not ledger.has_ledger():
        return known
    if database.is_local and ledger.lacks_needs():  # release 0.1 made it
        return known[ledger.newest() :]
    return Ledger(ledger, known, database.description).missing()


def require_current(settings: Settings) -> None:
    """Raise StartError where the settings' database has the schema of an older release.

    NOTE: a service of that release may be running. A command must not change the schema under it.
    """
    with open_as_it_is(settings) as database:
        missing = missing_migrations(database)
        if missing and database.statements("migrations").has_ledger():
            raise StartError(
                f"{database.description} has the schema of an older release (it lacks "
                f"{missing[0].name}): use the commands of that release, or update the schema with "
                "authapi db migrate."
            )


def inspect(database: Database, *, deep: bool) -> Iterator[Finding]:
    """Yield what is found in a database that was opened as it is. Raises Unavailable."""
    if isinstance(database, sqlite.SQLiteDatabase):
        return sqlite.inspect(database, deep=deep)
    return _postgresql().inspect(database)  # type: ignore[no-any-return]


def copies(settings: Settings) -> list[Path]:
    """Return the copies of the database that updates and restores have kept beside it."""
    group = settings.of(DatabaseSettings)
    return [] if group.is_postgresql else sqlite.copies(group.database_path.resolve())


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


def back_up(path: Path, target: Path) -> Contents:
    """Write a copy of a SQLite database to a new file, beside a service or without one.

    Return what it holds. Raises StartError, with nothing left behind.
    """
    with sqlite.open_as_it_is(path) as database:
        return sqlite.back_up(database, target)


def replacing(path: Path, backup: Path) -> AbstractContextManager[Replacement]:
    """Copy a backup beside the SQLite database that it is to replace, while nothing uses that.

    The copy has this release's schema. Raises StartError, with nothing changed.
    """
    return sqlite.replacing(path, backup)


def open_foreign(path: Path) -> AbstractContextManager[ForeignFile]:
    """Open another system's SQLite file, to read its tables. Raises UnreadableFile."""
    return sqlite.open_foreign(path)


def key_set() -> AbstractContextManager[KeySet]:
    """Return an empty set of keys, which takes no memory and is gone after the block."""
    return sqlite.key_set()
