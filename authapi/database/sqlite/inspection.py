"""Inspection: what is wrong with a SQLite file, its schema, and the files beside it."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

from authapi.database import Row
from authapi.database.findings import Finding, drift, fault, ok, warn
from authapi.database.migrations import Migration, migrations
from authapi.database.sqlite.backup import shown
from authapi.database.sqlite.database import SQLiteDatabase
from authapi.database.sqlite.drafts import mib
from authapi.database.sqlite.files import copies, found_files
from authapi.database.sqlite.schema import OLDEST_SQLITE, migrate
from authapi.errors import StartError
from authapi.secret_files import fault_of

LONG_LOG = 256 << 20  # bytes


def inspect(database: SQLiteDatabase, *, deep: bool) -> Iterator[Finding]:
    """Yield what is found; compare indexes with rows too if `deep`. Raises Unavailable."""
    yield from _version()
    yield from _files(database.real_path)
    yield from _content(database, deep=deep)
    yield from _drift(database)


def _version() -> Iterator[Finding]:
    text = f"SQLite {sqlite3.sqlite_version}"
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        yield fault("sqlite", f"{text} is too old: run a Python built with 3.38 or later.")
    else:
        yield ok("sqlite", f"{text}.")


def _files(real_path: Path) -> Iterator[Finding]:
    faults = [
        f"{file} {found}"
        for file, each in found_files(real_path)
        if (found := fault_of(file, each))
    ]
    if faults:
        yield fault("files", f"{'; '.join(faults)}.")
    elif real_path.stat().st_nlink > 1:
        yield fault("files", f"{real_path} has a second name (a hard link): remove that name.")
    else:
        yield ok("files", f"{real_path} and the files beside it are readable by their owner alone.")
    log = Path(f"{real_path}-wal")
    size = log.stat().st_size if log.exists() else 0
    if size > LONG_LOG:
        yield warn(
            "log", f"{log} has {mib(size)}: end the program that has been reading for so long."
        )
    kept = copies(real_path)
    if kept:
        names = ", ".join(each.name for each in kept)
        total = sum(each.stat().st_size for each in kept)
        yield ok("copies", f"{names} ({mib(total)}): delete them when you need no way back.")


def _content(database: SQLiteDatabase, *, deep: bool) -> Iterator[Finding]:
    statements = database.statements("database")
    with shown(database, f"Checking {database.path}"):
        found = statements.faults() if deep else statements.quick_faults()
        orphan = statements.orphan()
    if found:
        yield fault(
            "integrity",
            f"The database is damaged ({found[0][0]}): restore a backup with authapi db restore.",
        )
    else:
        more = "" if deep else ". authapi db check --deep compares indexes and rows too"
        yield ok("integrity", f"The pages are whole{more}.")
    if orphan:
        yield fault(
            "references",
            f"{orphan[0]} has rows that belong to no row of {orphan[2]}, which another program "
            "left: see PRAGMA foreign_key_check in sqlite3, and delete them.",
        )
    else:
        yield ok("references", "Every row belongs to one that is there.")


def _drift(database: SQLiteDatabase) -> Iterator[Finding]:
    """Compare the schema with that of a fresh database of the same version."""
    version, known = database.statements("migrations").newest(), migrations("sqlite")
    if version > len(known):
        yield warn("drift", "The schema is newer than this release, and was not compared.")
        return
    try:
        wanted = _fresh(known[:version])
    except (OSError, StartError) as error:
        yield warn("drift", f"The schema was not compared ({error}).")
        return
    yield from drift(database.statements("contents").schema(), wanted, version)


def _fresh(known: Sequence[Migration]) -> list[Row]:
    """Return the schema of a database that has had these migrations and nothing else."""
    with (
        tempfile.TemporaryDirectory() as folder,
        closing(SQLiteDatabase(Path(folder) / "fresh.db")) as fresh,
    ):
        migrate(fresh, known, copies=False)
        return fresh.statements("contents").schema()  # type: ignore[no-any-return]
