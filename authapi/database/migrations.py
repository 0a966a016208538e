"""Migrations: files of SQL that change the schema, applied once, in order, and never edited."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import msgspec

from authapi.database.statements import SQL, Statements
from authapi.errors import StartError


class Migration(msgspec.Struct, frozen=True):
    """One file of an engine's `migrations` directory."""

    version: int
    name: str
    text: str

    @property
    def checksum(self) -> str:
        """Return the SHA-256 of the text, in hexadecimal. The ledger keeps it to notice an edit."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def needs(self) -> int:
        """The oldest schema whose program can use a database that has had this migration.

        A first line `-- needs: 13` says so. Without it, it is the migration's own: a program that
        does not know the migration refuses the database.
        """
        line = re.match(r"-- needs: ([0-9]+)\n", self.text)
        return int(line[1]) if line else self.version


@cache
def migrations(engine: str) -> tuple[Migration, ...]:
    """Return the migrations that this program has for an engine, oldest first."""
    files: list[Path] = sorted((SQL / engine / "migrations").glob("*.sql"))
    return tuple(Migration(int(file.name[:4]), file.stem, file.read_text()) for file in files)


class Ledger:
    """The table of the migrations that were applied to a database."""

    def __init__(self, statements: Statements, known: Sequence[Migration], place: str) -> None:
        """Take the statements, the program's migrations, and what to call the database."""
        self._statements, self._known, self._place = statements, known, place

    def open(self) -> None:
        """Make the table in an empty database. Raises StartError for another program's."""
        if self._statements.has_ledger():
            return
        if not self._statements.is_empty():
            raise StartError(
                f"{self._place} is the database of another program: "
                "set another AUTHAPI_DATABASE_URL."
            )
        self._statements.create_ledger()

    def missing(self) -> Sequence[Migration]:
        """Return the migrations that were not applied to the database, oldest first.

        Raises StartError where one of its own was edited, or where the database has had one that
        needs a newer program than this.
        """
        applied = self._statements.applied()
        for (version, name, checksum, _), migration in zip(applied, self._known, strict=False):
            if (version, checksum) != (migration.version, migration.checksum):
                raise StartError(
                    f"The migration {name} was edited after it was applied to {self._place}: "
                    "restore the file, and put changes into a new migration."
                )
        unknown = applied[len(self._known) :]
        if any(needs is None or needs > self._known[-1].version for *_, needs in unknown):
            raise StartError(
                f"{self._place} is newer than this program (it has {applied[-1][1]}): "
                "run the newer release."
            )
        return self._known[len(applied) :]

    def apply_next(self, apply: Callable[[Migration], None]) -> bool:
        """Apply one missing migration and record it, inside a transaction.

        Return False where none is missing.
        """
        self.open()
        missing = self.missing()
        if not missing:
            return False
        apply(missing[0])
        self._statements.record(
            version=missing[0].version,
            name=missing[0].name,
            checksum=missing[0].checksum,
            needs=missing[0].needs,
        )
        return True
