"""What users are imported from: a file of JSON, of JSON Lines, of CSV or of SQLite, or a pipe."""

from __future__ import annotations

import csv
import hashlib
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from authapi.commands import CommandError
from authapi.database.opening import ForeignFile, UnreadableFile, open_foreign
from authapi.imports.formats import Format
from authapi.imports.lines import Read, json_elements, json_lines, lines
from authapi.imports.records import EndOfInput, Fault

SQLITE = b"SQLite format 3\0"
DELIMITERS = ",;\t|"


class Source:
    """An open file, whose rows can be read several times."""

    def __init__(self, form: Format, file: BinaryIO, database: ForeignFile | None) -> None:
        """Take the format and the open file, or the database that it is."""
        self._form, self._file, self._database = form, file, database

    def digest(self) -> str:
        """Return the SHA-256 of the file, by which an import knows that it began before."""
        self._file.seek(0)
        return hashlib.file_digest(self._file, "sha256").hexdigest()  # type: ignore[arg-type]

    def rows(self) -> Iterator[Read]:
        """Yield each row with its number, from the first on. Raises EndOfInput."""
        if self._database:
            try:
                yield from self._database.rows(self._form.statement, self._form.tables)
            except UnreadableFile as error:
                raise EndOfInput(f"The SQLite file cannot be read: {error}", "no_file") from error
            return
        self._file.seek(0)
        start = self._file.read(65_536).removeprefix(b"\xef\xbb\xbf").lstrip()
        self._file.seek(0)
        if start.startswith(b"[") or (self._form.key and start.startswith(b"{")):
            yield from json_elements(self._file, self._form.key)
        elif start.startswith(b"{"):
            yield from json_lines(self._file)
        else:
            yield from _csv(self._file)


@contextmanager
def open_source(path: str, form: Format) -> Iterator[Source]:
    """Open a file, or standard input for `-`, for the block. Raises CommandError."""
    with _opened(path) as file:
        if not _starts_as_sqlite(file):
            yield Source(form, file, None)
            return
        # NOTE: SQLite would wait for ever for who writes into a pipe that has a name.
        if path == "-" or not Path(path).is_file():
            raise CommandError("A SQLite database cannot be piped: name its file.", "no_file")
        with suppress(UnreadableFile), open_foreign(Path(path)) as database:
            yield Source(form, file, database)
            return
    raise CommandError(f"{path} is a SQLite file that cannot be read.", "no_file")


def _opened(path: str) -> BinaryIO:
    """Open a file, or a copy of a pipe that no name leads to. Raises CommandError."""
    try:
        if path == "-":
            return _copied(sys.stdin.buffer)
        file = Path(path).open("rb")  # noqa: SIM115 - the caller closes it
        if file.seekable():
            return file
        with file:
            return _copied(file)
    except OSError as error:
        raise CommandError(f"{path} cannot be read ({error.strerror}).", "no_file") from error


def _copied(file: BinaryIO) -> BinaryIO:
    copy = tempfile.TemporaryFile()  # noqa: SIM115 - the caller closes it
    shutil.copyfileobj(file, copy)
    return copy


def _starts_as_sqlite(file: BinaryIO) -> bool:
    file.seek(0)
    return file.read(len(SQLITE)) == SQLITE


def _csv(file: BinaryIO) -> Iterator[Read]:
    """Yield the rows of a CSV file by the names in its first line. Raises EndOfInput."""
    numbered = lines(file)
    first = next(numbered, (1, ""))[1]
    if isinstance(first, Fault):
        raise EndOfInput(str(first), first.error)
    delimiter = max(DELIMITERS, key=first.count)
    try:
        names = next(csv.reader([first], delimiter=delimiter), [])
    except csv.Error:
        names = []
    if not any("email" in name.casefold() for name in names):
        raise EndOfInput(
            "It is neither JSON, nor SQLite, nor CSV with the names of columns in its first line.",
            "unknown_file",
        )
    reader = csv.reader(map(_line, numbered), delimiter=delimiter, strict=True)
    while True:
        number = reader.line_num + 2
        try:
            values = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise EndOfInput(f"Line {number} is no CSV: {error}.", "not_csv") from error
        if len(values) == len(names):
            yield number, dict(zip(names, values, strict=True))
        elif values:
            yield number, Fault(f"The row has {len(values)} values for {len(names)} columns.")


def _line(numbered: tuple[int, str | Fault]) -> str:
    """Return a line. Raises csv.Error for one that is too long: quotes may span lines."""
    if isinstance(numbered[1], Fault):
        raise csv.Error(str(numbered[1]))
    return numbered[1]
