"""Named statements for psycopg: `:name` becomes PostgreSQL's own `$1`, once for each statement."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any

from authapi.database.postgresql.connections import Connection, Cursor
from authapi.database.statements import Statement

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
