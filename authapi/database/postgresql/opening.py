"""Opening the connection of a pipeline, in a thread: the server's loop must not wait for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import psycopg

from authapi.database import NoConnection
from authapi.database.postgresql.connections import Connection, Connector, close
from authapi.database.postgresql.pool import Pool
from authapi.database.statements import SQL
from authapi.signals import kept_from_threads

NAME = b"look_up"  # of the prepared statement
PAUSE = 1.0  # seconds until the next try, where there was no connection
CLOSE_WAIT = 1  # seconds that `close` waits for a thread that connects


class Opening:
    """Opens connections, one at a time, and sends the statement that they run to be prepared.

    NOTE: in a thread, because libpq holds the interpreter lock while it connects by itself, and
    psycopg, which does not, waits.
    """

    setup = (SQL / "postgresql" / "look_ups.sql").read_text()

    def __init__(self, connector: Connector, pool: Pool, text: bytes) -> None:
        """Take what connects, the pool, and the statement. Connect to nothing yet."""
        self._connector, self._pool, self._text = connector, pool, text
        self._arrived: Connection | None = None  # from the thread
        self._thread: threading.Thread | None = None
        self._retry_at = 0.0  # monotonic seconds
        self._is_closed = False

    def take(self, wake: Callable[[], None]) -> Connection | None:
        """Return a connection. If there is none yet, a thread connects, and calls `wake` then.

        Raises Unavailable while the database is away, and NoConnection.
        """
        thread, arrived = self._thread, self._arrived  # in this order: the thread ends with None
        if arrived is not None:
            self._arrived = None
        elif thread is None:
            self._pool.circuit.require_closed()
            if time.monotonic() < self._retry_at:
                raise NoConnection
            self._start(wake)
        return arrived

    def pause(self) -> None:
        """Open no connection for a moment."""
        self._retry_at = time.monotonic() + PAUSE

    def close(self) -> None:
        """Close a connection that was not taken. No other is opened."""
        self._is_closed = True
        thread = self._thread
        if thread is not None:
            thread.join(CLOSE_WAIT)
        if self._arrived is not None:
            close(self._arrived)

    def _start(self, wake: Callable[[], None]) -> None:
        """Start the thread. Raises NoConnection where the system has none left."""
        self._thread = threading.Thread(target=self._connect, args=(wake,), daemon=True)
        try:
            with kept_from_threads():
                self._thread.start()
        except RuntimeError:
            self._thread = None
            raise NoConnection from None

    def _connect(self, wake: Callable[[], None]) -> None:
        try:
            connection = self._opened()
            if self._is_closed:
                close(connection)
            else:
                self._arrived = connection
        except psycopg.Error as error:
            self._pool.refused(error)
            if not self._pool.circuit.is_open:  # the pool's connections answer meanwhile
                self.pause()
        finally:
            self._thread = None
            wake()

    def _opened(self) -> Connection:
        """Return a connection in pipeline mode, whose first result is the preparation's."""
        connection = self._connector.connect()
        try:
            connection.execute(self.setup.encode(), prepare=False)
            pgconn = connection.pgconn
            pgconn.nonblocking = 1
            pgconn.enter_pipeline_mode()
            pgconn.send_prepare(NAME, self._text)
            pgconn.pipeline_sync()
            pgconn.flush()
        except BaseException:
            close(connection)
            raise
        return connection
