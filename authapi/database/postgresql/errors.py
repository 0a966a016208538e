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
)
_READ_ONLY = "25006"  # a server that is no longer the primary
_OUTDATED = frozenset({"0A000", "26000"})  # a prepared statement, which the schema or a proxy lost
_TIMEOUTS = frozenset({"25P03", "25P04"})  # of a transaction: idle, or as a whole
_UNAVAILABLE_STATES = {_READ_ONLY} | _OUTDATED | _TIMEOUTS
_TOO_MANY_CONNECTIONS = "53300"
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
    is_libpqs = type(error) is psycopg.DatabaseError  # in a pipeline: the connection was lost
    if isinstance(error, _UNAVAILABLE) or error.sqlstate in _UNAVAILABLE_STATES or is_libpqs:
        raise Unavailable from error


class StandbyError(psycopg.OperationalError):
    """Raised for a connection to a standby, which learns late which sessions have ended."""


def advice(error: BaseException) -> str:
    """Return what to do about an error with which a start ends.

    NOTE: libpq gives no SQLSTATE of a connect that failed, only the message, in the server's own
    language. So only the advice depends on it.
    """
    if isinstance(error, StandbyError):
        return "name the primary in AUTHAPI_DATABASE_URL, or all servers"
    is_full = isinstance(error, psycopg.Error) and error.sqlstate == _TOO_MANY_CONNECTIONS
    if is_full or any(text in str(error) for text in _FULL):
        return "raise its max_connections, or lower AUTHAPI_DATABASE_CONNECTIONS"
    return "start it and let this user in, or set another AUTHAPI_DATABASE_URL"


def is_useless(error: BaseException | None) -> bool:
    """Return whether no connection that is open now should be used after an error.

    The server is the primary no longer, or what was prepared does not fit the schema any more.
    """
    return isinstance(error, psycopg.Error) and error.sqlstate in _OUTDATED | {_READ_ONLY}


def is_outdated(error: BaseException) -> bool:
    """Return whether a statement was not run because it was prepared for another schema."""
    return isinstance(error, psycopg.Error) and error.sqlstate in _OUTDATED
