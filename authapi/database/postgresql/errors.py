"""PostgreSQL's errors, and what each means to the service."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg import errors

from authapi.database import UniqueViolation
from authapi.errors import Unavailable

_UNAVAILABLE = (
    psycopg.OperationalError,  # deadlocks, deadlines, a full disk and lost connections too
    psycopg.InterfaceError,  # a connection that is closed
    errors.ReadOnlySqlTransaction,  # a server that is no longer the primary
    errors.IdleInTransactionSessionTimeout,
)
_FULL = (  # of the server, of a role or a database, and for roles that have no reserved slot
    "too many clients already",
    "too many connections for",
    "connection slots are reserved",
)


@contextmanager
def translated() -> Iterator[None]:
    """Turn PostgreSQL's errors in the block into UniqueViolation and Unavailable.

    Any other one is a mistake in the program, and passes.
    """
    try:
        yield
    except psycopg.Error as error:
        raise_ours(error)
        raise


def raise_ours(error: psycopg.Error) -> None:
    """Raise the service's own error for one of PostgreSQL's; return where there is none."""
    if isinstance(error, errors.UniqueViolation):
        table, name = error.diag.table_name or "", error.diag.constraint_name or ""
        raise UniqueViolation(f"{table}.{name.removeprefix(f'{table}_')}") from error
    if isinstance(error, _UNAVAILABLE):
        raise Unavailable from error


def is_full(error: BaseException | None) -> bool:
    """Return whether the server has no connection left, while those that are open work.

    NOTE: libpq gives no SQLSTATE of a connect that failed (it would be 53300), only its message.
    """
    return isinstance(error, psycopg.Error) and any(text in str(error) for text in _FULL)


def is_read_only(error: BaseException) -> bool:
    """Return whether the server, or the connection, could only be read."""
    return isinstance(error.__cause__, errors.ReadOnlySqlTransaction)
