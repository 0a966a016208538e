"""Named statements: SQL that every engine takes, and what an engine has instead or in addition.

`sql/queries/NAME.sql` has the statements of all engines. `sql/ENGINE/queries/NAME.sql` has an
engine's own, which replace those of the same name. Each of them says why it is not a common one.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import aiosql

# In the wheel sql/ is inside the package, in a checkout beside it.
_PACKAGED = Path(__file__).parents[1] / "sql"
SQL = _PACKAGED if _PACKAGED.is_dir() else Path(__file__).parents[2] / "sql"


class Statements:
    """The named statements of one file, each run on the calling thread's connection.

    A statement is called with its parameters by name. By the mark behind its name it returns: `$`
    one value or None, `^` one row or None, `!` the number of changed rows, and without a mark a
    list of rows. Raises UniqueViolation, and Unavailable for a database that is locked, full,
    read-only or damaged.
    """

    def __init__(self, queries: Any, bind: Callable[[Any], Callable[..., Any]]) -> None:  # noqa: ANN401 - aiosql's
        """Take what `load` returned, and the engine's way to make a callable of a statement."""
        for name in queries.available_queries:
            if not name.endswith("_cursor"):
                setattr(self, name, bind(getattr(queries, name)))

    def __getattr__(self, name: str) -> Callable[..., Any]:
        """Raise AttributeError: every statement was set at the start."""
        raise AttributeError(name)


@cache
def load(name: str, engine: str, driver: str, root: Path = SQL) -> Any:  # noqa: ANN401 - aiosql's
    """Return the statements of a name for an engine, by aiosql for its driver."""
    files = [root / "queries" / f"{name}.sql", root / engine / "queries" / f"{name}.sql"]
    blocks = {key: text for file in files if file.exists() for key, text in _blocks(file)}
    return aiosql.from_str("\n".join(blocks.values()), driver)


def _blocks(file: Path) -> list[tuple[str, str]]:
    """Return the name and the text of each statement in a file."""
    parts = re.split(r"(?m)^-- name: (?=(\w+))", file.read_text())[1:]
    return [(key, f"-- name: {text}") for key, text in zip(parts[::2], parts[1::2], strict=True)]
