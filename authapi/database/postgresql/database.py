"""A PostgreSQL database as the service's: statements, transactions, and what follows a commit."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any, TypeVar

from authapi.database.postgresql.binding import PostgreSQLStatements
from authapi.database.postgresql.connections import Connection, Connector, Deadlines
from authapi.database.postgresql.errors import translated
from authapi.database.postgresql.pipeline import PostgreSQLPipeline, pipeline_of
from authapi.database.postgresql.pool import Pool
from authapi.database.postgresql.transactions import Transactions, commit, undo
from authapi.database.statements import load

Result = TypeVar("Result")


class PostgreSQLDatabase:
    """One database of a PostgreSQL server, shared by threads of this process and by other nodes.

    A thread has a connection of the pool for each statement, or for a whole transaction. Changes
    to one user's rows happen one after the other, because each locks the user's row first.
    """

    is_local, reading = False, nullcontext  # each statement reads for itself
    is_blocked = False  # changes wait for the rows of one user alone

    def __init__(
        self,
        url: str,
        connections: int = 4,
        deadlines: Deadlines = Deadlines(),  # noqa: B008 - it is frozen
        wall: Callable[[], float] = time.time,
    ) -> None:
        """Take the URL and the most connections of this process. Connect to nothing yet.

        `wall` is this machine's clock in seconds since the epoch.
        """
        self.is_new = False
        self.deadlines = deadlines
        self.description = "PostgreSQL"
        self.connector = Connector(url, deadlines, wall)
        self.pool = Pool(self.connector, connections)
        self._wall = wall
        self._local = threading.local()
        self._isolation = self.statements("database").isolation
        self._transactions = Transactions(self.statements)

    @property
    def is_stuck(self) -> bool:
        """Whether the server does not answer."""
        return self.pool.circuit.is_open

    def statements(self, name: str) -> PostgreSQLStatements:
        """Return the statements of `sql/queries/{name}.sql`, with PostgreSQL's own on top."""
        return PostgreSQLStatements(self, load(name, "postgresql"))

    def pipeline(self, statement: str) -> PostgreSQLPipeline:
        """Return what looks rows up by a statement, such as `sessions.authenticate_all`."""
        return pipeline_of(statement, self.connector, self.pool, self.deadlines.check)

    def run(self, execute: Callable[[Connection], Result]) -> Result:
        """Run something on the thread's connection: its transaction's, or one of the pool.

        Outside a transaction it must only read: it may run again, as `Pool.lend` says. Raises
        UniqueViolation and Unavailable.
        """
        connection = self._current
        with translated():
            if connection is not None:
                return execute(connection)
            check = self.deadlines.check
            connection, result = self.pool.lend(execute, check, check)
            self.pool.give(connection)
            return result

    @contextmanager
    def transaction(
        self,
        patience: float | None = None,
        *,
        of: int | Iterable[int] | None = None,
        at_once: bool = True,
    ) -> Iterator[None]:
        """Run the block's statements as one change, kept by the server when the block is left.

        `of` is a user's id, or several: no other change of the same users begins until this one has
        ended. Each statement sees what was committed before it began (READ COMMITTED). If not
        `at_once`, a crash of the server undoes it, unless another change was kept after it.

        Raises Unavailable where the change cannot begin within `patience` seconds or the server
        refuses it.
        """
        if self._current is not None:
            raise RuntimeError("transactions do not nest")
        begin = partial(self._begin, patience=patience, of=of, at_once=at_once)
        wait = self.deadlines.change if patience is None else patience
        with translated():
            connection, _ = self.pool.lend(begin, wait, self.deadlines.change)
        actions = self._local.actions = []
        try:
            with translated():
                yield
                commit(connection)
        except BaseException as error:
            self._undo(connection, error)
            raise
        finally:
            self._local.connection = None
            self.pool.give(connection)
        for action in actions:
            action()

    @contextmanager
    def without_deadline(self) -> Iterator[None]:
        """Let the statements of the thread's transaction take as long as they need: migrations."""
        if self._current is not None:
            self._current.patience = None
        yield

    def after_commit(self, action: Callable[[], None]) -> None:
        """Call `action` after the calling thread's transaction is committed; now if it has none."""
        if self._current is not None:
            self._local.actions.append(action)
        else:
            action()

    def clock(self, local: Callable[[], float]) -> Callable[[], float]:
        """Return the server's clock, in the place of this machine's.

        NOTE: all nodes have one clock so. Limits count wrongly where clocks differ by more than the
        time in which a try comes back. Another clock than the machine's stays as it is.
        """
        if local is not self._wall:
            return local
        return lambda: local() + self.connector.offset

    def maintain(self) -> None:
        """Read a setting of the server. Where that fails, the circuit opens. Raises Unavailable."""
        self._isolation()

    def prepare_to_fork(self) -> None:
        """Close the connections; the next use opens others."""
        self.pool.close()

    def close(self) -> None:
        """Close the connections."""
        self.pool.close()

    @property
    def _current(self) -> Connection | None:
        """The connection of the calling thread's transaction."""
        return getattr(self._local, "connection", None)

    def _begin(self, connection: Connection, **options: Any) -> None:  # noqa: ANN401 - of all types
        """Begin a transaction on a connection, which is the thread's from now on."""
        self._local.connection = connection
        try:
            self._transactions.begin(connection, **options)
        except BaseException as error:
            self._undo(connection, error)
            raise

    def _undo(self, connection: Connection, error: BaseException) -> None:
        self._local.connection = None
        if undo(connection, error):
            self.pool.forget()
