"""The pool: a few connections that the threads of a process share."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

import psycopg
from psycopg.errors import ConnectionTimeout

from authapi.database.postgresql.circuit import Circuit
from authapi.database.postgresql.connections import Connection, Connector, close
from authapi.database.postgresql.errors import is_outdated
from authapi.errors import Unavailable

Result = TypeVar("Result")

LIFETIME = 600  # seconds after which a connection is replaced: names and clocks are read anew


class Pool:
    """Lends connections, each to one thread at a time, and opens `size` at most.

    The last one that was given back is the first to be lent again.
    """

    def __init__(self, connector: Connector, size: int) -> None:
        """Take what connects, and the number of connections. Connect to nothing yet."""
        self.circuit = Circuit(self._probe)
        self._connector = connector
        self._free = threading.BoundedSemaphore(size)
        self._idle: list[Connection] = []
        self._lent: set[Connection] = set()
        self._forgotten_at = 0.0  # connections that were opened before are not used any more

    def lend(
        self, use: Callable[[Connection], Result], timeout: float, patience: float
    ) -> tuple[Connection, Result]:
        """Return a connection, as `take` does, and what its first use returned.

        The use must change nothing: it is repeated where a connection was lost while it was idle,
        as when the server was started again, and where a statement was prepared for another schema.
        `patience` is the seconds that each answer may take.
        """
        connection = self.take(timeout)
        try:
            return connection, _used(use, connection, patience)
        except BaseException as error:
            repeats = connection.closed and not connection.is_overdue
            if is_outdated(error):
                self.forget()
                repeats = True
            self.give(connection)
            if not repeats:
                raise
        connection = self.take(timeout)
        try:
            return connection, _used(use, connection, patience)
        except BaseException:
            self.give(connection)
            raise

    def take(self, timeout: float) -> Connection:
        """Return a connection, which must be given back.

        Raises Unavailable while the database is away, where none is free within `timeout` seconds,
        or where a new one cannot be opened.
        """
        self.circuit.require_closed()
        if not self._free.acquire(timeout=max(0, timeout)):
            raise Unavailable from TimeoutError("all connections to the database are in use")
        try:
            connection = self._reused() or self._connect()
        except BaseException:
            self._free.release()
            raise
        self._lent.add(connection)
        return connection

    def give(self, connection: Connection) -> None:
        """Take a connection back. One whose state is not known is closed.

        Where it was lost, those that are idle are lost too.
        """
        if connection.closed:
            self.forget()
        is_ready = connection.pgconn.transaction_status == psycopg.pq.TransactionStatus.IDLE
        is_old = time.monotonic() - connection.opened_at > LIFETIME
        if is_ready and not is_old and connection.opened_at >= self._forgotten_at:
            self._idle.append(connection)
        else:
            close(connection)
            if connection.is_overdue:
                self.circuit.fail(TimeoutError("the server did not answer in time"))
        self._lent.discard(connection)
        self._free.release()

    def refused(self, error: psycopg.Error) -> None:
        """Open the circuit after a connect that failed, unless other connections are open.

        NOTE: a server that is full lets no connection in, and goes on with those that it has. Where
        they are dead too, the last one that is lost opens the circuit.
        """
        if isinstance(error, ConnectionTimeout) or not (self._lent or self._idle):
            self.circuit.fail(error)

    def forget(self) -> None:
        """Use no connection any more that is open now: the server has dropped one of them."""
        self._forgotten_at = time.monotonic()
        while (connection := self._reused()) is not None:
            close(connection)

    def close(self) -> None:
        """Close the connections that are not lent, and look for the database no longer."""
        self.circuit.close()
        self.forget()

    def _reused(self) -> Connection | None:
        try:
            return self._idle.pop()
        except IndexError:
            return None

    def _connect(self) -> Connection:
        try:
            return self._connector.connect()
        except psycopg.Error as error:
            connection = self._reused()  # which was given back meanwhile
            if connection is not None:
                return connection
            self.refused(error)
            raise Unavailable from error

    def _probe(self) -> None:
        """Open a connection after the database was away. Raises Unavailable."""
        self.forget()
        try:
            close(self._connector.connect())
        except psycopg.Error as error:
            raise Unavailable from error


def _used(use: Callable[[Connection], Result], connection: Connection, patience: float) -> Result:
    connection.patience = patience
    return use(connection)
