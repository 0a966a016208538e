"""Migrations: the schema grows by files that are applied once, in order, and never edited."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from authapi.database import LOCK_TIMEOUT, SQL, Database, DatabaseError, is_spoilt, split
from authapi.errors import StartError, Unavailable
from authapi.files import create, synchronize
from authapi.usernames import lookalikes

logger = logging.getLogger("authapi.migrations")


def migrate(database: Database) -> None:
    """Make the file where there is none, and bring its schema up to date.

    Each migration is one transaction together with its row in the ledger. Raises StartError, with
    nothing changed, for a file that cannot be used.
    """
    with _as_start_errors(database.path):
        database.create()
        if database.path.is_file() and database.path.stat().st_nlink > 1:
            raise StartError(
                f"{database.path} is a hard link, and has another name, by which SQLite would keep "
                "another log: remove that name, or copy the file."
            )
        ledger = _Ledger(database)
        if not database.use_write_ahead_log():
            raise StartError(
                f"{database.path} cannot keep a write-ahead log: use a local file system."
            )
        ledger.copy_database()
        while ledger.apply_next():
            pass
        database.names.keep_to_owner()


@dataclass(frozen=True, slots=True)
class Migration:
    """One file of `sql/migrations`; `checksum` is the SHA-256 of its text."""

    version: int
    name: str
    text: str

    @property
    def checksum(self) -> str:
        """What the ledger keeps, to notice an edit."""
        return hashlib.sha256(self.text.encode()).hexdigest()


def migrations() -> list[Migration]:
    """The migrations that this program brings, oldest first."""
    files = sorted((SQL / "migrations").glob("*.sql"))
    return [Migration(int(file.name[:4]), file.stem, file.read_text()) for file in files]


class _Ledger:
    """The table of the migrations that the database has seen."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._statements = database.statements("migrations")

    def copy_database(self) -> None:
        """Copy a database whose schema is about to change: its older release can open that copy.

        The copy appears whole or not at all, for its owner alone.
        """
        with self._database.turns.take(time.monotonic() + LOCK_TIMEOUT):
            missing = self._missing() if self._statements.has_ledger() else []
            if not missing or not self._statements.has_users():  # others may just be making it
                return
            path = Path(self._database.names.real)
            copy = path.with_name(f"{path.name}.before-{missing[0].version:04d}")
            draft = copy.with_name(f"{copy.name}.part")
            try:
                draft.unlink(missing_ok=True)
                create(draft)
                self._statements.copy_to(path=str(draft))
                synchronize(draft)
                draft.rename(copy)
                synchronize(copy.parent)
            except (OSError, Unavailable) as error:
                raise StartError(
                    f"{path} cannot be copied to {copy} before its schema changes "
                    f"({error.__cause__ or error}): make room there for a second one."
                ) from error
        before, after = missing[0].version - 1, missing[-1].version
        logger.info(
            "%s goes from schema %d to %d: a copy from before is %s", path, before, after, copy
        )

    def apply_next(self) -> bool:
        """Apply one missing migration together with its row; False where none is missing."""
        with self._database.transaction():
            self._begin()
            missing = self._missing()
            if not missing:
                return False
            self._add_functions()
            for statement in split(missing[0].text):
                self._database.connection.execute(statement)
            self._statements.record(
                version=missing[0].version, name=missing[0].name, checksum=missing[0].checksum
            )
        return True

    def _add_functions(self) -> None:
        """Give the connection what migrations call and SQLite does not have."""
        self._database.connection.create_function(
            "lookalikes", 1, lambda username: json.dumps(sorted(lookalikes(username)))
        )

    def _begin(self) -> None:
        if self._statements.has_ledger():
            return
        if not self._statements.is_empty():
            raise StartError(
                f"{self._database.path} is the database of another program: "
                "set another AUTHAPI_DATABASE_URL."
            )
        self._statements.create_ledger()

    def _missing(self) -> list[Migration]:
        known = migrations()
        applied = self._statements.applied()
        for (version, name, checksum), migration in zip(applied, known, strict=False):
            if (version, checksum) != (migration.version, migration.checksum):
                raise StartError(
                    f"The migration {name} was edited after {self._database.path} had it: "
                    "restore the file, and put changes into a new migration."
                )
        if len(applied) > len(known):
            raise StartError(
                f"{self._database.path} is newer than this program (it has {applied[-1][1]}): "
                "run the newer release."
            )
        return known[len(applied) :]


@contextmanager
def _as_start_errors(path: Path) -> Iterator[None]:
    """Turn what can be wrong with a database file at a start into StartError."""
    try:
        yield
    except (Unavailable, DatabaseError) as error:
        cause = error.__cause__ or error
        if not is_spoilt(error):
            raise StartError(
                f"The database {path} cannot be used ({cause}): "
                "let this user write to it and its directory, or stop what keeps it locked."
            ) from error
        raise StartError(
            f"{path} is no SQLite database that can be used ({cause}): "
            "move it away, or set another AUTHAPI_DATABASE_URL."
        ) from error
    except OSError as error:
        raise StartError(
            f"The database {path} cannot be written ({error.strerror}): make its directory and "
            "let this user write there, or set another AUTHAPI_DATABASE_URL."
        ) from error
