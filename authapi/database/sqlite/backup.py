"""Backups: a copy of a SQLite file, made while others write to it, and checked."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from filecmp import cmp
from pathlib import Path
from urllib.parse import quote

from msgspec.structs import replace

from authapi.database import Contents
from authapi.database.progress import progress
from authapi.database.sqlite.database import SQLiteDatabase
from authapi.database.sqlite.drafts import draft_of, publish, require_room
from authapi.database.sqlite.errors import is_busy, translated
from authapi.database.statements import SQL
from authapi.errors import StartError, Unavailable

EXCLUSIVE = (SQL / "sqlite" / "exclusive.sql").read_text()
DRAFT = (SQL / "sqlite" / "draft.sql").read_text()
FIRST_WITH_SESSIONS = 2  # schema
STAMP = "%Y%m%dT%H%M%SZ"
PAGES = 256  # of a step: 1 MiB
TICK_EVERY = 20_000  # instructions of SQLite's virtual machine: some milliseconds


def back_up(source: SQLiteDatabase, path: Path) -> Contents:
    """Write a copy of a database to a new file, for its owner alone, and return what it holds.

    Others may write meanwhile: the copy is the database as it was at the beginning. Raises
    StartError, with nothing left behind; a file that is there is never replaced.
    """
    if os.path.lexists(path):
        raise StartError(f"{path} exists: name a new file.")
    with _as_start_errors(source.path, path), draft_of(path) as draft:
        contents = copy(source, draft, f"Backing up {source.path}")
        publish(draft, path)
    return contents


def keep_copy(source: SQLiteDatabase, path: Path) -> Path:
    """Write a copy of a database that is about to change; return where it is kept.

    An older copy stays: where it is not the same, the new one has the time in its name. So a start
    that fails again and again does not fill the disk. Raises StartError.
    """
    with _as_start_errors(source.path, path), draft_of(path) as draft:
        copy(source, draft, f"Copying {source.path}")
        if path.exists():
            if cmp(path, draft, shallow=False):
                return path
            path = path.with_name(f"{path.name}-{time.strftime(STAMP, time.gmtime())}")
        publish(draft, path)
    return path


def copy(source: SQLiteDatabase, draft: Path, step: str) -> Contents:
    """Copy a database into an empty draft, and check the copy. Raises StartError, Unavailable.

    NOTE: the copy reads in one transaction. Without it SQLite begins anew at each change of another
    process, and never ends under load. The log grows meanwhile.
    """
    with translated():
        reader = source.connection
    statements = source.statements("database")
    statements.begin_reading()
    try:
        before = contents_of(source)
        require_room(draft, before.size)
        with translated(), closing(_opened(draft)) as target, progress(step) as tick:
            target.executescript(DRAFT)
            size = before.size // max(1, statements.page_count())
            reader.backup(
                target,
                pages=PAGES,
                progress=lambda _, left, pages: tick((pages - left) * size, pages * size),
            )
    finally:
        with translated():
            reader.rollback()
    after = checked(draft)
    if replace(after, size=0, orphan="") != replace(before, size=0):
        raise StartError(f"The copy of {source.path} has other rows: is its disk sound?")
    return after


def checked(draft: Path) -> Contents:
    """Make a copy a single file without a log; return what it holds, if it is whole.

    Raises StartError, Unavailable.
    """
    with closing(alone(draft)) as database:
        statements = database.statements("database")
        with shown(database, f"Checking {draft}"):
            if faults := statements.faults():
                raise StartError(f"The copy is damaged ({faults[0][0]}), as is the original.")
            contents = contents_of(database, orphans=True)
        statements.keep_no_log()
        return contents


def alone(path: Path) -> SQLiteDatabase:
    """Return a database whose connection no other program's may be beside."""
    database = SQLiteDatabase(path)
    database.connections.setup = EXCLUSIVE + database.connections.setup
    return database


def contents_of(database: SQLiteDatabase, *, orphans: bool = False) -> Contents:
    """Return what a database holds now; look for orphans if asked to, which takes a while."""
    statements, counts = database.statements("database"), database.statements("contents")
    ledger = database.statements("migrations")
    schema = ledger.newest() if ledger.has_ledger() else 0
    has_tables = schema >= FIRST_WITH_SESSIONS
    orphan = statements.orphan() if orphans else None
    return Contents(
        schema=schema,
        users=counts.users() if has_tables else 0,
        sessions=counts.sessions() if has_tables else 0,
        size=statements.page_count() * statements.page_size(),
        orphan=orphan[0] if orphan else "",
    )


@contextmanager
def shown(database: SQLiteDatabase, step: str) -> Iterator[None]:
    """Show the progress of the block's statements on standard error.

    NOTE: what a signal raises in the handler ends the statement, and sqlite3 raises its own error.
    """
    connection = database.connection
    raised: list[BaseException] = []

    def handle() -> int:
        try:
            tick()
        except BaseException as error:  # noqa: BLE001 - it is raised below
            raised.append(error)
        return len(raised)

    with progress(step) as tick:
        connection.set_progress_handler(handle, TICK_EVERY)
        try:
            yield
        except sqlite3.OperationalError:
            if raised:
                raise raised[0] from None
            raise
        finally:
            connection.set_progress_handler(None, 0)


def _opened(draft: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{quote(str(draft))}?mode=rw", uri=True, isolation_level=None)


@contextmanager
def _as_start_errors(source: Path, path: Path) -> Iterator[None]:
    """Turn what can go wrong with a copy into StartError."""
    try:
        yield
    except (OSError, Unavailable) as error:
        cause = error.__cause__ or error
        text = getattr(cause, "strerror", None) or cause
        advice = "make room there, and let this user write there"
        if is_busy(error):
            advice = "stop what keeps it locked"
        raise StartError(
            f"{source} cannot be copied to {path} ({text}), so nothing was written: {advice}."
        ) from error
