"""Named statements for psycopg: `:name` becomes PostgreSQL's own `$1`, once for each statement."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from authapi.database.postgresql.connections import Connection, Cursor
from authapi.database.statements import Statement, Statements

if TYPE_CHECKING:
    from authapi.database.postgresql.database import PostgreSQLDatabase

# What is quoted or commented, a cast, or a parameter.
_TOKEN = re.compile(r"'[^']*'|--[^\n]*|::|:([a-z_]+)")

_RESULTS: dict[str, Callable[[Cursor], object]] = {
    "": lambda cursor: cursor.fetchall(),
    "^": lambda cursor: cursor.fetchone(),
    "$": lambda cursor: (cursor.fetchone() or (None,))[0],
    "!": lambda cursor: cursor.rowcount,
}


@cache
def positional(text: str) -> tuple[bytes, tuple[str, ...]]:
    """Return a statement with `$1` in the place of `:name`, and the names by their numbers."""
    names: list[str] = []

    def number(match: re.Match[str]) -> str:
        name = match[1]
        if name is None:
            return match[0]
        if name not in names:
            names.append(name)
        return f"${names.index(name) + 1}"

    return _TOKEN.sub(number, text).encode(), tuple(names)


class PostgreSQLStatements(Statements):
    """The named statements of one file, which may run in one round trip."""

    def __init__(self, database: PostgreSQLDatabase, statements: Mapping[str, Statement]) -> None:
        """Take what `load` returned."""
        super().__init__(statements, partial(bound, database))
        self._database = database
        self._by_function = {getattr(self, name): each for name, each in statements.items()}

    def each(self, run: Callable[..., Any], many: Iterable[Mapping[str, object]]) -> list[object]:
        """Run a statement of these for each of several parameters, in one round trip."""
        statement = self._by_function[run]
        text, names = positional(statement.sql)
        result = _RESULTS[statement.mark]
        rows = [[parameters[name] for name in names] for parameters in many]

        def execute(connection: Connection) -> list[object]:
            with in_one_packet(connection, len(rows)):
                cursors = [connection.execute(text, values, prepare=True) for values in rows]
            return [result(cursor) for cursor in cursors]

        return self._database.run(execute) if rows else []


@contextmanager
def in_one_packet(connection: Connection, statements: int) -> Iterator[None]:
    """Send the statements of the block together, if there are several."""
    if statements < 2:
        yield
        return
    with connection.pipeline() as pipeline:
        setattr(pipeline, "_exit_gen", partial(_end, pipeline))  # noqa: B010 - psycopg's own
        yield


def _end(pipeline: Any) -> Iterator[Any]:  # noqa: ANN401 - psycopg's own names
    """End a pipeline with a Sync, and nothing after it.

    NOTE: psycopg sends a Flush too. The server then stops the clock of
    `idle_in_transaction_session_timeout`, and would keep the locks of a process that hangs.
    """
    try:
        yield from pipeline._sync_gen()  # noqa: SLF001
    finally:
        yield from pipeline._fetch_gen(flush=False)  # noqa: SLF001


def bound(database: PostgreSQLDatabase, statement: Statement) -> Callable[..., Any]:
    """Return a function that runs a statement: in the thread's transaction, or by itself."""
    text, names = positional(statement.sql)
    result = _RESULTS[statement.mark]

    def run(**parameters: object) -> object:
        values = [parameters[name] for name in names]

        def execute(connection: Connection) -> object:
            return result(connection.execute(text, values, prepare=True))

        return database.run(execute)

    return run
