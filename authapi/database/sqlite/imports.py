"""SQLite for imports: the files of other systems, and a set of keys that takes no memory."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from authapi.database.statements import SQL

LONGEST = 1_048_576  # bytes of a value
HASH_COLUMNS = frozenset({"password", "pw_hash"})


class UnreadableFile(Exception):
    """Raised for a SQLite file that cannot be read; its text is one sentence."""


class ForeignFile:
    """Another system's SQLite file, which is only read."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        """Take the connection. Raises UnreadableFile."""
        self._connection = connection
        self._columns: dict[str, set[str]] = {}
        with _readable():
            for table, column in connection.execute(_sql("columns")):
                self._columns.setdefault(table, set()).add(column)

    def rows(
        self, statement: str, tables: Sequence[Sequence[str]]
    ) -> Iterator[tuple[int, dict[str, object]]]:
        """Yield the rows of a statement of `sql/sqlite/imports/`, each with its number.

        For each table that the statement names, `tables` has the names that it may have. Where only
        the first is there, or none is listed, the rows of one table are yielded. Raises
        UnreadableFile.
        """
        found = [self._first(names) for names in tables] or [self._table_of_users()]
        if found[0] is None:
            raise UnreadableFile(f"it has no table {' or '.join(tables[0])}.")
        named = [f'"{name.replace(chr(34), chr(34) * 2)}"' for name in found if name]
        sql = _sql(statement if len(named) == len(found) else "table")
        for place, name in enumerate(named):
            sql = sql.replace(f"{{{place}}}", name)
        with _readable():
            cursor = self._connection.execute(sql)
            names = [column[0] for column in cursor.description]
            for number, row in enumerate(cursor, 1):
                yield number, dict(zip(names, row, strict=True))

    def _first(self, names: Sequence[str]) -> str | None:
        return next((name for name in names if name in self._columns), None)

    def _table_of_users(self) -> str:
        """Return the one table that has emails and passwords. Raises UnreadableFile."""
        found = [
            table
            for table, columns in self._columns.items()
            if any("email" in column for column in columns)
            and any(column in HASH_COLUMNS or "hash" in column.lower() for column in columns)
        ]
        if len(found) != 1:
            listed = ", ".join(found) or "none"
            raise UnreadableFile(f"one table must have emails and passwords; these do: {listed}.")
        return found[0]


class KeySet:
    """A set of keys with the line of each, in a temporary file."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        """Take a connection to an empty database."""
        self._connection = connection
        self._add = _sql("add_key")

    def add(self, key: str, line: int) -> int:
        """Add a key, unless it is there; return the line that had it first."""
        return int(self._connection.execute(self._add, {"key": key, "line": line}).fetchone()[0])


@contextmanager
def open_foreign(path: Path) -> Iterator[ForeignFile]:
    """Open another system's file for the block. Raises UnreadableFile.

    SECURITY: the file may come from anywhere: its schema calls no functions with effects.
    """
    with _readable():
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
    with closing(connection):
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LONGEST)
        connection.text_factory = lambda data: data.decode(errors="surrogateescape")
        with _readable():
            connection.executescript(_sql("connection"))
        yield ForeignFile(connection)


@contextmanager
def key_set() -> Iterator[KeySet]:
    """Yield an empty set of keys, which is gone after the block."""
    with closing(sqlite3.connect("", isolation_level=None)) as connection:
        connection.executescript(_sql("keys"))
        yield KeySet(connection)


def _sql(name: str) -> str:
    return (SQL / "sqlite" / "imports" / f"{name}.sql").read_text()


@contextmanager
def _readable() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise UnreadableFile(f"SQLite says: {error}.") from error
