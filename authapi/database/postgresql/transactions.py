"""How a transaction of PostgreSQL begins, with its locks, and how it ends."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress

import psycopg

from authapi.database.postgresql.binding import in_one_packet
from authapi.database.postgresql.connections import Connection
from authapi.database.postgresql.errors import is_useless
from authapi.database.statements import Statements
from authapi.errors import Unavailable


class Transactions:
    """Begins transactions, each in one packet."""

    def __init__(self, statements: Callable[[str], Statements]) -> None:
        """Take what returns the statements of a file."""
        self._statements, self._lock_user = statements("database"), statements("users").lock

    def begin(
        self,
        connection: Connection,
        *,
        patience: float | None,
        of: int | Iterable[int] | None,
        at_once: bool,
    ) -> None:
        """Begin a transaction on the thread's connection, and lock users' rows.

        It waits for each lock for at most `patience` seconds. Raises psycopg.Error.
        """
        users = in_order(of)
        count = 1 + (patience is not None) + (not at_once) + len(users)
        with in_one_packet(connection, count):
            self._statements.begin()
            if patience is not None:
                milliseconds = f"{max(1, int(patience * 1000))}ms"
                self._statements.wait_at_most(milliseconds=milliseconds)
            if not at_once:
                self._statements.commit_later()
            for user_id in users:
                self._lock_user(id=user_id)


def in_order(of: int | Iterable[int] | None) -> list[int]:
    """Return the users of a transaction in the order in which they are locked.

    NOTE: it is the same for all transactions, so that no two wait for each other.
    """
    ids = () if of is None else (of,) if isinstance(of, int) else of
    return sorted(set(ids))


def undo(connection: Connection, error: BaseException) -> bool:
    """Roll back after an error; return whether no connection that is open now should be used."""
    with suppress(psycopg.Error):
        connection.rollback()
    return is_useless(error) or is_useless(error.__cause__)


def commit(connection: Connection) -> None:
    """Commit a transaction. Raises Unavailable where a standby may not have it.

    NOTE: COMMIT of a failed transaction is a ROLLBACK without a word.
    """
    if connection.pgconn.transaction_status != psycopg.pq.TransactionStatus.INTRANS:
        raise Unavailable from psycopg.InterfaceError("the transaction has failed already")
    connection.warned = False
    connection.commit()
    if connection.warned:
        raise Unavailable from psycopg.OperationalError("the commit may not be on a standby")
