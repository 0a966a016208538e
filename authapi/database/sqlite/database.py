"""A SQLite file as the service's database: statements, transactions, and what follows a commit."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from authapi.database.sqlite.connections import Connections, reading
from authapi.database.sqlite.errors import is_busy, is_read_only, raise_ours, translated
from authapi.database.sqlite.file_identity import FileIdentity
from authapi.database.sqlite.use_lock import UseLock
from authapi.database.sqlite.writer_lock import POLL_INTERVAL, WriterLock
from authapi.database.statements import Statement, Statements, load
from authapi.errors import Unavailable

SQLITE_VERSION = sqlite3.sqlite_version
LOCK_TIMEOUT = 5.0  # seconds that a change waits until it can begin


class SQLiteDatabase:
    """One SQLite file, shared by the threads of this process and by other processes.

    Each thread reads on a connection of its own. Changes go through `transaction`, one at a time.
    """

    is_local = True

    def __init__(
        self, path: Path, most_waiting: int = 8, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Take the file's path, and how many threads may wait to write. Open nothing yet.

        `clock` returns seconds, for deadlines alone.
        """
        self.path = path
        self.is_new = False
        self.lock_timeout = LOCK_TIMEOUT
        self.identity = FileIdentity(path)
        self.writer_lock = WriterLock(f"{self.real_path}.lock", most_waiting, clock)
        self.use_lock = UseLock(self.real_path)
        self.connections = Connections(self.identity, self.writer_lock, clock)
        self.reading = partial(reading, self.connections)
        self._clock = clock
        self._local = threading.local()
        self._statements = self.statements("database")

    @property
    def real_path(self) -> Path:
        """Return the path of the file itself; `path` may be a symbolic link."""
        return Path(self.identity.real_path)

    @property
    def description(self) -> str:
        """Return the file's path and SQLite's version."""
        return f"{self.path}, SQLite {SQLITE_VERSION}"

    @property
    def is_stuck(self) -> bool:
        """Return whether a writer has held the lock for unusually long."""
        return self.writer_lock.is_stuck

    @property
    def is_blocked(self) -> bool:
        """Return whether no writer got the lock for 5 seconds."""
        return self.writer_lock.is_blocked

    @property
    def connection(self) -> sqlite3.Connection:
        """Return the calling thread's connection, for the schema and tests. Raises Unavailable."""
        return self.connections.current

    def statements(self, name: str) -> Statements:
        """Return the statements of `sql/queries/{name}.sql`, with SQLite's own on top."""
        return Statements(load(name, "sqlite"), partial(_bound, self.connections))

    @contextmanager
    def transaction(
        self,
        patience: float | None = None,
        *,
        of: int | Iterable[int] | None = None,  # noqa: ARG002 - changes of all users happen one after the other
        at_once: bool = True,  # noqa: ARG002 - each change is on the disk when it ends
    ) -> Iterator[None]:
        """Run the block's statements as one change, which is on the disk when the block is left.

        Raises Unavailable where it cannot begin within `patience` seconds, or the disk refuses it.
        """
        deadline = self._clock() + (self.lock_timeout if patience is None else patience)
        with translated():
            connection = self.connections.to_write
        if connection.in_transaction:
            raise RuntimeError("transactions do not nest")
        actions = self._local.actions = []
        try:
            with self.writer_lock.hold(deadline), translated():
                try:
                    self._begin(deadline)
                    yield
                    connection.commit()
                except BaseException as error:
                    with suppress(sqlite3.Error):
                        connection.rollback()
                    if connection.in_transaction or is_read_only(error):
                        self.connections.disconnect()  # which undoes it too
                    raise
        except Unavailable:
            # NOTE: a loss may have been noticed inside the lock, which taking in the log needs.
            if self.connections.loss():
                self.connections.take_in_log(deadline)
            raise
        for action in actions:
            action()

    def _begin(self, deadline: float) -> None:
        self._patiently(self._statements.begin_immediate, deadline)
        self.connections.require_in_place()

    def _patiently(self, statement: Callable[[], Any], deadline: float) -> Any:  # noqa: ANN401
        """Run a statement as soon as no other program is in its way: those know no writer lock."""
        while True:
            try:
                return statement()
            except Unavailable as refusal:
                if not is_busy(refusal) or self._clock() >= deadline:
                    raise
                time.sleep(POLL_INTERVAL)

    def after_commit(self, action: Callable[[], None]) -> None:
        """Call `action` after the calling thread's transaction is committed; now if it has none."""
        if self.connections.current.is_changing:
            self._local.actions.append(action)
        else:
            action()

    def clock(self, local: Callable[[], float]) -> Callable[[], float]:
        """Return this machine's clock: all processes that share the file run on it."""
        return local

    def pipeline(self, _statement: str) -> None:
        """Return None: a server's loop reads the file itself."""

    def use_write_ahead_log(self) -> bool:
        """Keep a write-ahead log from now on; return False where the file system cannot."""
        with self.writing() as deadline:
            return bool(self._patiently(self._statements.use_write_ahead_log, deadline) == "wal")

    @contextmanager
    def writing(self) -> Iterator[float]:
        """Hold the writer lock for what is no transaction; yield the deadline of its wait."""
        deadline = self._clock() + self.lock_timeout
        with self.writer_lock.hold(deadline):
            yield deadline

    def maintain(self) -> None:
        """Notice a file that was replaced or removed, and keep a connection open.

        NOTE: without a connection the process does not know which log is the database's.
        """
        self.connections.require_in_place()
        _ = self.connections.current

    def prepare_to_fork(self) -> None:
        """Close the calling thread's connection; its next use opens another."""
        self.connections.disconnect()

    def close(self) -> None:
        """Close every thread's connection. The database cannot be used afterwards."""
        self.connections.close()
        self.use_lock.release()


def _value(cursor: sqlite3.Cursor) -> object:
    row = cursor.fetchone()
    return row[0] if row else None


_RESULTS: dict[str, Callable[[sqlite3.Cursor], object]] = {
    "": sqlite3.Cursor.fetchall,
    "^": sqlite3.Cursor.fetchone,
    "$": _value,
    "!": lambda cursor: cursor.rowcount,
}


def _bound(connections: Connections, statement: Statement) -> Callable[..., Any]:
    """Return a function that runs a statement on the calling thread's connection."""
    sql, result = statement.sql, _RESULTS[statement.mark]

    def run(**parameters: object) -> object:
        try:
            return result(connections.current.execute(sql, parameters))
        except sqlite3.Error as error:
            raise_ours(error)
            raise

    return run
