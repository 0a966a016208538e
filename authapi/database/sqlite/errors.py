"""SQLite's result codes, and what each means to the service."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from authapi.database import UniqueViolation
from authapi.errors import Unavailable

_DAMAGED = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_BUSY = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
_REFUSED = frozenset({sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR})
_UNAVAILABLE = _DAMAGED | _BUSY | _REFUSED | {sqlite3.SQLITE_READONLY}
_NOT_UNIQUE = frozenset({sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY})


@contextmanager
def translated() -> Iterator[None]:
    """Turn SQLite's errors in the block into UniqueViolation and Unavailable.

    Any other one is a mistake in the program, and passes.
    """
    try:
        yield
    except sqlite3.Error as error:
        raise_ours(error)
        raise


def raise_ours(error: sqlite3.Error) -> None:
    """Raise the service's own error for one of SQLite's; return where there is none."""
    code = getattr(error, "sqlite_errorcode", 0)
    if code in _NOT_UNIQUE:
        raise UniqueViolation(str(error).partition(": ")[2].partition(",")[0]) from error
    if code & 0xFF in _UNAVAILABLE:
        raise Unavailable from error


def is_busy(error: BaseException) -> bool:
    """Return whether another program's lock led to an error of the service."""
    return _code_behind(error) == sqlite3.SQLITE_BUSY


def is_read_only(error: BaseException) -> bool:
    """Return whether the database, or the connection, could only be read."""
    return _code_behind(error) == sqlite3.SQLITE_READONLY


def is_damaged(error: Unavailable | sqlite3.DatabaseError) -> bool:
    """Return whether the file is no SQLite database, or no longer one."""
    return not isinstance(error, Unavailable) or _code_behind(error) in _DAMAGED


def _code_behind(error: BaseException) -> int:
    """Return SQLite's primary result code that led to an error; 0 where none did."""
    return int(getattr(error.__cause__, "sqlite_errorcode", 0)) & 0xFF
