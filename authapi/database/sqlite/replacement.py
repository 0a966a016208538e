"""A replacement: a backup takes the place of a database, and what was there is kept.

The backup is copied beside the database, checked and migrated. Until one `rename` puts the copy in
place, the database is the old one; after it, the new one.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from authapi.database.migrations import Ledger, migrations
from authapi.database.sqlite.backup import STAMP, alone, copy
from authapi.database.sqlite.database import SQLiteDatabase
from authapi.database.sqlite.drafts import DRAFT, KEPT, LOGS, clear_interrupted, draft_of, move
from authapi.database.sqlite.errors import is_busy, is_damaged, translated
from authapi.database.sqlite.files import is_database
from authapi.database.sqlite.schema import migrate
from authapi.errors import StartError, Unavailable
from authapi.secret_files import synchronize

logger = logging.getLogger("authapi.restore")


class Replacement:
    """A checked copy of a backup, in this release's schema, beside the database to replace."""

    def __init__(self, path: Path, draft: Path) -> None:
        """Take the database's own path and the copy's."""
        self.path, self.draft = path, draft

    def put_in_place(self) -> Path | None:
        """Put the copy in the database's place; return where the old database is kept, if any.

        NOTE: the old file keeps its name until the `rename`, and has its new name before: a crash
        between leaves the old database with two names, which `clear_interrupted` mends.
        """
        _join_log(self.draft)
        synchronize(self.draft)
        kept = _free_name(self.path)
        _require_alone(self.path, joins_log=True)
        is_there = self.path.exists()
        if is_there:
            _link(self.path, kept)
        for ending in LOGS:  # of a database that cannot be read
            move(f"{self.path}{ending}", f"{kept}{ending}")
        Path(f"{self.path}-shm").unlink(missing_ok=True)
        self.draft.replace(self.path)
        synchronize(self.path.parent)
        return kept if is_there else None


@contextmanager
def replacing(path: Path, backup: Path) -> Iterator[Replacement]:
    """Copy a backup beside a database that nobody uses or can open meanwhile, to replace it.

    Raises StartError, with nothing changed, where a process uses the database, or the backup
    cannot be used.
    """
    database = SQLiteDatabase(path)
    real = database.real_path
    with _as_start_errors(real, backup), database.use_lock.alone():
        clear_interrupted(real)
        _require_alone(real)
        with _source(backup, real) as source, draft_of(real, DRAFT) as draft:
            copy(source, draft, f"Copying {backup}")
            with closing(SQLiteDatabase(draft)) as copied:
                migrate(copied, copies=False)
            yield Replacement(real, draft)


@contextmanager
def _source(backup: Path, real_path: Path) -> Iterator[SQLiteDatabase]:
    """Open a backup to read from it, and change nothing beside it. Raises StartError."""
    _require_content(backup)
    if real_path.exists() and backup.samefile(real_path):
        raise StartError(f"{backup} is the database itself: name a backup of it.")
    with closing(SQLiteDatabase(backup)) as database:
        database.connections.access = _access(database.real_path)
        try:
            with translated():
                _ = database.connection
            ledger = database.statements("migrations")
            if not ledger.has_ledger():
                raise StartError(f"{backup} is not a database of authapi.")
            if not ledger.lacks_needs():
                Ledger(ledger, migrations("sqlite"), str(backup)).missing()
        except Unavailable as error:
            advice = (
                "copy it into a directory where this user can write, with its -wal if it has one"
            )
            if is_damaged(error):
                advice = "name another backup"
            raise StartError(
                f"The backup {backup} cannot be read ({error.__cause__}): {advice}."
            ) from error
        yield database


def _require_content(backup: Path) -> None:
    """Raise StartError for a file that is missing or empty, and OSError where it cannot be told."""
    try:
        size = backup.stat().st_size
    except FileNotFoundError:
        size = 0
    if not size:
        raise StartError(f"There is no backup {backup}.")


def _access(real_path: Path) -> str:
    """Return how to open a backup.

    NOTE: a file that a service used says that it has a log. If it has none, SQLite would make one,
    where it can.
    """
    with real_path.open("rb") as file:
        keeps_log = file.read(20)[18:19] == b"\2"
    has_log = Path(f"{real_path}-wal").exists()
    return "immutable=1" if keeps_log and not has_log else "mode=ro"


def _require_alone(path: Path, *, joins_log: bool = False) -> None:
    """Raise StartError where another program has a database open, if that can be told.

    NOTE: earlier releases and other programs know no use lock. `joins_log` writes the log into the
    file, which is the whole database then, until it is opened again.
    """
    if not is_database(path):
        return
    with closing(alone(path)) as database:
        statements = database.statements("database")
        try:
            with translated():
                connection = database.connection
            statements.begin_exclusive()
            connection.rollback()
            if joins_log:
                statements.keep_no_log()
        except Unavailable as error:
            if is_busy(error):
                raise StartError(f"Another program uses {path}: stop it first.") from error
            logger.warning("%s cannot be read (%s), and is kept as it is", path, error.__cause__)


def _join_log(path: Path) -> None:
    with closing(alone(path)) as database:
        database.statements("database").keep_no_log()


def _free_name(path: Path) -> Path:
    """Return the name under which the old database is kept: it has the time."""
    stamp = time.strftime(STAMP, time.gmtime())
    names = [f"{path.name}{KEPT}{stamp}{ending}" for ending in ("", *"bcdefgh")]
    return next(each for name in names if not os.path.lexists(each := path.with_name(name)))


def _link(path: Path, kept: Path) -> None:
    try:
        kept.hardlink_to(path)
    except OSError as error:
        raise StartError(
            f"{path} cannot be kept as {kept} ({error.strerror}), so nothing was changed: move it "
            "away with its -wal, and restore again."
        ) from error


@contextmanager
def _as_start_errors(path: Path, backup: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, Unavailable) as error:
        cause = error.__cause__ or error
        text = getattr(cause, "strerror", None) or cause
        raise StartError(
            f"{backup} cannot be restored to {path} ({text}), so nothing was changed: let this "
            "user read the one and write beside the other, and make room."
        ) from error
