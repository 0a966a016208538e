"""Named statements: SQL that every engine takes, and what an engine has instead or in addition.

`sql/queries/NAME.sql` has the statements of all engines. `sql/ENGINE/queries/NAME.sql` has an
engine's own, which replace those of the same name. Each of them says why it is not a common one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

# In the wheel sql/ is inside the package, in a checkout beside it.
_PACKAGED = Path(__file__).parents[1] / "sql"
SQL = _PACKAGED if _PACKAGED.is_dir() else Path(__file__).parents[2] / "sql"

_HEAD = re.compile(r"(?m)^-- name: (\w+)\([\w, ]*\)([$^!]?)\n(?:--.*\n)*")


class Statement(msgspec.Struct, frozen=True):
    """The mark behind a statement's name, which says what it returns, and its SQL."""

    mark: str
    sql: str


class Statements:
    """The named statements of one file, each run on the calling thread's connection.

    A statement is called with its parameters by name. By the mark behind its name it returns: `$`
    one value or None, `^` one row or None, `!` the number of changed rows, and without a mark a
    list of rows. Raises UniqueViolation, and Unavailable for a database that is locked, full,
    read-only or damaged.
    """

    def __init__(
        self, statements: Mapping[str, Statement], bind: Callable[[Statement], Callable[..., Any]]
    ) -> None:
        """Take what `load` returned, and the engine's way to make a callable of a statement."""
        for name, statement in statements.items():
            setattr(self, name, bind(statement))

    def each(self, run: Callable[..., Any], many: Iterable[Mapping[str, object]]) -> Iterable[Any]:
        """Run a statement of these for each of several parameters, when its result is taken.

        An engine whose server is far away runs all of them at once, in one round trip.
        """
        return (run(**parameters) for parameters in many)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        """Raise AttributeError: every statement was set at the start."""
        raise AttributeError(name)


@cache
def load(name: str, engine: str, root: Path = SQL) -> Mapping[str, Statement]:
    """Return a file's statements for an engine, by name. Raises ValueError for a misspelt head."""
    files = [root / "queries" / f"{name}.sql", root / engine / "queries" / f"{name}.sql"]
    return {name: each for file in files if file.exists() for name, each in _read(file)}


def _read(file: Path) -> list[tuple[str, Statement]]:
    text = file.read_text()
    _, *parts = _HEAD.split(text)
    if len(parts) != 3 * text.count("-- name:"):
        raise ValueError(f"{file}: write -- name: statement(parameters), then $, ^, ! or nothing")
    rows = zip(parts[::3], parts[1::3], parts[2::3], strict=True)
    return [(name, Statement(mark, sql.strip())) for name, mark, sql in rows]
