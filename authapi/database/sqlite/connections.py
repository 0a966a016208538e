"""The connections to a SQLite file: one for each thread, and none to a file that was replaced."""

from __future__ import annotations

import sqlite3
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from urllib.parse import quote

from authapi.database.sqlite.file_identity import FileIdentity, LogFiles
from authapi.database.sqlite.writer_lock import WriterLock
from authapi.database.statements import SQL, load
from authapi.errors import Unavailable

LOOK_EVERY = 0.01  # seconds from one look at the file's name to the next


class Connection(sqlite3.Connection):
    """A connection that is closed when the thread that it belongs to has ended."""

    log_files: LogFiles | None = None  # the log and its index that it uses, while it is open
    is_reading = False  # whether its statements read one state

    @property
    def is_changing(self) -> bool:
        """Return whether a transaction is open that may change something."""
        return self.in_transaction and not self.is_reading

    def begin_reading(self) -> None:
        """Let the next statements read one state.

        NOTE: in a database without a log, a reader keeps writers out, so there this does nothing.
        """
        if self.log_files and not self.in_transaction:
            self.execute(load("database", "sqlite")["begin_reading"].sql)
            self.is_reading = True

    def end_reading(self) -> None:
        """Let each statement read the newest state again.

        SECURITY: a connection that kept its state would accept revoked sessions for ever.
        """
        if self.is_reading:
            self.is_reading = False
            self.rollback()

    def close(self) -> None:
        """Close it. SQLite deletes the log with the last connection to a database."""
        self.log_files = None
        super().close()

    def __del__(self) -> None:
        """Close it; the collector runs this."""
        with suppress(sqlite3.ProgrammingError):  # it was never opened
            self.close()


class Connections:
    """Opens a connection for each thread, and notices when the database was replaced or removed.

    SECURITY: what is written to such a file is acknowledged and lost, and what is read there may be
    revoked in the file that took its place. SQLite notices neither. Every transaction looks at the
    file's name; session checks look each `look_every` seconds, because a look takes 5 microseconds.
    The new file is not opened, because SQLite finds a file's log by name, so that both files would
    share one. A restart opens it.
    """

    factory = Connection
    setup = (SQL / "sqlite" / "connection.sql").read_text()
    access = "mode=rw"  # never make a missing file anew

    def __init__(
        self,
        identity: FileIdentity,
        writer_lock: WriterLock,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take the file's identity, and the lock that taking in its log needs. Open nothing.

        `clock` returns seconds.
        """
        self.look_every = LOOK_EVERY
        self._identity, self._writer_lock, self._clock = identity, writer_lock, clock
        self._look_at = 0.0
        self._log_is_empty = False  # of a file that lost its name
        self._local = threading.local()
        self._open: weakref.WeakSet[Connection] = weakref.WeakSet()
        self._opening = threading.Lock()

    @property
    def current(self) -> Connection:
        """Return the calling thread's connection, opened at its first use.

        Raises Unavailable where the file was replaced or removed `look_every` seconds ago or more.
        """
        if self._clock() >= self._look_at:
            self.require_in_place()
        try:
            return self._local.connection  # type: ignore[no-any-return]
        except AttributeError:
            self._local.connection = connection = self._connect()
            return connection

    @property
    def to_write(self) -> Connection:
        """Return the calling thread's connection, reopened if the file is no longer read-only.

        It reads the newest state, also inside a block of `reading`. NOTE: SQLite keeps a connection
        read-only that was opened so.
        """
        self.end_reading()
        if getattr(self._local, "reads_only", False) and self._identity.is_writable:
            self.disconnect()
        return self.current

    @property
    def opened(self) -> list[Connection]:
        """Return the open connections of all threads."""
        with self._opening:
            return list(self._open)

    def end_reading(self) -> None:
        """End what `reading` began for the calling thread."""
        try:
            self._local.connection.end_reading()
        except AttributeError:  # it has none
            pass
        except sqlite3.Error:
            self.disconnect()

    def require_in_place(self) -> None:
        """Raise Unavailable where the file that was opened, or its log, has lost its name."""
        loss = self.loss()
        if loss:
            self._look_at = 0.0
            self.end_reading()  # which keeps the log in use
            self.take_in_log()
            raise Unavailable from loss
        self._look_at, self._log_is_empty = self._clock() + self.look_every, False

    def loss(self) -> OSError | None:
        """Return what happened to the file or to a log in use; None where both are in place."""
        # NOTE: each is read once, because another thread may close its own connection meanwhile.
        in_use = [connection.log_files for connection in self.opened]
        return self._identity.loss(log_files for log_files in in_use if log_files)

    def take_in_log(self, deadline: float = 0) -> None:
        """Write the log into a file that was replaced, once. Give up at the deadline.

        NOTE: so the file is whole, under whatever name it has now, and whoever opens the file that
        took its place finds no log that SQLite would read into that one.
        """
        if self._log_is_empty:
            return
        empty_log = load("database", "sqlite")["empty_log"].sql
        with suppress(sqlite3.Error, Unavailable), self._writer_lock.hold(deadline):
            opened = [(connection, connection.log_files) for connection in self.opened]
            ours = [
                connection
                for connection, log_files in opened
                if log_files and self._identity.is_ours_alone(log_files)
            ]
            self._log_is_empty = not any(
                connection.execute(empty_log).fetchone()[0] for connection in ours
            )

    def _connect(self) -> Connection:
        with self._identity.opening():
            connection = sqlite3.connect(
                f"file:{quote(self._identity.real_path)}?{self.access}",
                uri=True,
                isolation_level=None,
                check_same_thread=False,  # for `take_in_log` and `close`
                factory=self.factory,
            )
        try:
            self.require_in_place()  # before it finds another file's log
            connection.executescript(self.setup)
        except (Unavailable, sqlite3.Error):
            connection.close()
            raise
        self._local.reads_only = not self._identity.is_writable
        log_files = self._identity.log_files
        connection.log_files = log_files if all(log_files) else None  # None: no log is in use yet
        with self._opening:
            self._open.add(connection)
        return connection

    def disconnect(self) -> None:
        """Close the calling thread's connection; its next use opens another.

        NOTE: SQLite's connections must not be carried through a fork.
        """
        connection = self._local.__dict__.pop("connection", None)
        if connection:
            connection.close()

    def close(self) -> None:
        """Close the connections of all threads."""
        if self.loss():
            self.take_in_log()
        for connection in self.opened:
            connection.close()


@contextmanager
def reading(connections: Connections) -> Iterator[None]:
    """Let the block's statements read one state of the database: the newest at the first one.

    SQLite then locks the log once, and not for each statement.
    """
    with suppress(Unavailable, sqlite3.Error):  # which the block's statements meet again
        connections.current.begin_reading()
    try:
        yield
    finally:
        connections.end_reading()
