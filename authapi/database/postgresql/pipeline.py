"""The pipeline: many look-ups on one connection, for a server's loop, which never waits for it."""

from __future__ import annotations

import logging
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import psycopg
from psycopg import pq
from psycopg.adapt import Transformer

from authapi.database import Key, NoConnection, Row
from authapi.database.postgresql.binding import positional
from authapi.database.postgresql.connections import Connection, Connector, close
from authapi.database.postgresql.opening import NAME, Opening
from authapi.database.postgresql.pool import LIFETIME, Pool
from authapi.database.statements import load
from authapi.errors import Unavailable

_TEXT, _BIGINT = 25, 20  # types of PostgreSQL, by their numbers
_BINARY = [pq.Format.BINARY, pq.Format.BINARY]
_ENDING = frozenset({"08", "53", "57"})  # classes of errors with which a connection is useless

logger = logging.getLogger("authapi.database")


class PostgreSQLPipeline:
    """Looks rows up by keys, in batches, on a connection of its own.

    The statement takes an array for each part of the keys. Its first column is the place of a row's
    key among them, from 1. Every method returns at once, and is called by one thread.
    """

    def __init__(self, connector: Connector, pool: Pool, text: bytes, deadline: float) -> None:
        """Take what connects, the pool of other connections, and the statement.

        Connect to nothing yet. `deadline` is the seconds until a server that does not answer
        counts as unavailable.
        """
        self.deadline = deadline
        self._circuit = pool.circuit
        self._opening = Opening(connector, pool, text)
        self._connection: Connection | None = None
        self._sizes: list[int] = []  # of the batches under way; 0 is the preparation
        self._rows: list[Row] = []  # of the batch that is being received
        self._unsent = False

    @property
    def descriptor(self) -> int | None:
        """Return the socket's descriptor, to watch it for answers; None without a connection."""
        return None if self._connection is None else self._connection.pgconn.socket

    @property
    def is_worn(self) -> bool:
        """Return whether the connection should be replaced, once no batch is under way.

        SECURITY: names are resolved anew then. A server that is the primary no longer, and still
        answers, would not see which sessions have ended.
        """
        connection = self._connection
        return connection is not None and time.monotonic() - connection.opened_at > LIFETIME

    def is_ready(self, wake: Callable[[], None]) -> bool:
        """Return whether keys can be sent. If not, a thread connects, and calls `wake` after that.

        Raises Unavailable while the database is away, and NoConnection.
        """
        if self._connection is None:
            self._connection = self._opening.take(wake)
            self._sizes, self._rows = [0], []
        return self._connection is not None

    def send(self, keys: Sequence[Key]) -> None:
        """Send a batch of keys. Raises ConnectionError for a connection that was lost."""
        with self._losses() as pgconn:
            values = [_array(column) for column in zip(*keys, strict=True)]
            pgconn.send_query_prepared(NAME, values, _BINARY, pq.Format.BINARY)
            pgconn.pipeline_sync()
            self._sizes.append(len(keys))
            self._unsent = bool(pgconn.flush())

    def push(self) -> bool:
        """Send what the socket did not take; return whether something is left.

        Raises ConnectionError.
        """
        if self._unsent:
            with self._losses() as pgconn:
                self._unsent = bool(pgconn.flush())
        return self._unsent

    def receive(self) -> list[list[Row | None]]:
        """Return the rows of the batches that were answered, oldest first, by the keys' places.

        Raises ConnectionError for a connection that was lost, and NoConnection where the server
        cannot run the statement. No batch under way is answered then.
        """
        batches: list[list[Row | None]] = []
        with self._losses() as pgconn:
            pgconn.consume_input()
            while self._sizes and not pgconn.is_busy():
                result = pgconn.get_result()
                if result is not None and self._take(result):
                    size = self._sizes.pop(0)
                    if size:
                        batches.append(self._placed(size))
        return batches

    def fail(self) -> None:
        """Drop the connection, because the server does not answer. Raises Unavailable."""
        self.drop()
        cause = TimeoutError("the server did not answer in time")
        self._circuit.fail(cause)
        raise Unavailable from cause

    def close(self) -> None:
        """Close the connection. No other is opened."""
        self._opening.close()
        self.drop()

    def _take(self, result: pq.abc.PGresult) -> bool:
        """Take a result; return whether it ends a batch.

        Raises OperationalError where the server ends the connection, and NoConnection where it
        cannot run the statement, as after a change of the schema: it is prepared again later.
        """
        if result.status == pq.ExecStatus.TUPLES_OK:
            transformer = Transformer(self._connection)
            transformer.set_pgresult(result, format=pq.Format.BINARY)
            self._rows = transformer.load_rows(0, result.ntuples, tuple)
        elif result.status == pq.ExecStatus.PIPELINE_SYNC:
            return True
        elif result.status != pq.ExecStatus.COMMAND_OK:  # which is the preparation's
            message = result.get_error_message()
            state = (result.error_field(pq.DiagnosticField.SQLSTATE) or b"").decode()
            if not state or state[:2] in _ENDING:
                raise psycopg.OperationalError(message)
            logger.warning("session checks go to threads for a moment: %s", message)
            self.drop()
            self._opening.pause()
            raise NoConnection
        return False

    def _placed(self, size: int) -> list[Row | None]:
        rows: list[Row | None] = [None] * size
        for row in self._rows:
            rows[row[0] - 1] = row[1:]
        self._rows = []
        return rows

    @contextmanager
    def _losses(self) -> Iterator[pq.abc.PGconn]:
        """Turn psycopg's errors into ConnectionError, and drop the connection."""
        try:
            if self._connection is None:
                raise psycopg.InterfaceError("there is no connection")
            yield self._connection.pgconn
        except psycopg.Error as error:
            self.drop()
            raise ConnectionError(str(error)) from error

    def drop(self) -> None:
        """Close the connection. The next `is_ready` opens another one."""
        connection, self._connection = self._connection, None
        self._sizes, self._unsent = [], False
        if connection is not None:
            close(connection)


def pipeline_of(
    statement: str, connector: Connector, pool: Pool, deadline: float
) -> PostgreSQLPipeline:
    """Return a pipeline that runs a statement, which is named as `sessions.authenticate_all`."""
    file, _, name = statement.partition(".")
    text, _ = positional(load(file, "postgresql")[name].sql)
    return PostgreSQLPipeline(connector, pool, text, deadline)


def _array(values: Sequence[str | int]) -> bytes:
    """Return an array in PostgreSQL's binary format, which needs no quotes."""
    if isinstance(values[0], int):
        parts = b"".join([struct.pack("!iq", 8, value) for value in values])
        kind = _BIGINT
    else:
        texts = [str(value).encode() for value in values]
        parts = b"".join([len(text).to_bytes(4, "big") + text for text in texts])
        kind = _TEXT
    return struct.pack("!iiiii", 1, 0, kind, len(values), 1) + parts
