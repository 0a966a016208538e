"""The only module that knows sqlite3: connections, turns to write, transactions, errors.

Statements stand in `sql/`; repositories get them by file with `Database.statements`.
"""

from __future__ import annotations

import sqlite3
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache, wraps
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiosql

from authapi.errors import StartError, Unavailable
from authapi.files import LOCK_POLL, Beside, Names, Turns, create

SQLITE_VERSION = sqlite3.sqlite_version
OLDEST_SQLITE = (3, 38)  # has STRICT tables and unixepoch()
SMALLEST_FILE = 512  # bytes: one page
LOCK_TIMEOUT = 5.0  # seconds that a write waits for its turn
LOOK_EVERY = 0.01  # seconds from one look at the file's name to the next

# In the wheel sql/ lies inside the package, in a checkout beside it.
_PACKAGED = Path(__file__).parent / "sql"
SQL = _PACKAGED if _PACKAGED.is_dir() else Path(__file__).parents[1] / "sql"
_CONNECTION = (SQL / "connection.sql").read_text()

_SPOILT = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_BUSY = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
_REFUSED = frozenset({sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR})
_UNAVAILABLE = _SPOILT | _BUSY | _REFUSED | {sqlite3.SQLITE_READONLY}

DatabaseError = sqlite3.DatabaseError  # what no error of ours says better: a fault of the file


class UniqueViolation(Exception):
    """A row that collides with another one; `column` is `table.column`."""

    def __init__(self, column: str) -> None:
        """Take the first column of the index."""
        super().__init__(column)
        self.column = column


class _Connection(sqlite3.Connection):
    """A connection that is closed with the thread that it belonged to."""

    beside: Beside | None = None  # which files its log and the log's index are, while it is open

    def close(self) -> None:
        """Close it. The last one of a database takes the log away."""
        self.beside = None
        super().close()

    def __del__(self) -> None:
        with suppress(sqlite3.ProgrammingError):  # it was never opened
            self.close()


@cache
def _queries(name: str) -> Any:  # noqa: ANN401 - aiosql's
    return aiosql.from_path(SQL / "queries" / f"{name}.sql", "sqlite3")


class Statements:
    """The named statements of one file of `sql/queries`, each run on the thread's connection.

    A statement is called with its parameters by name. `$` gives one value or None, `^` one row or
    None, `!` the number of rows changed, no mark a list of rows. Raises UniqueViolation, and
    Unavailable for a database that is locked, full, read-only or spoilt.
    """

    def __init__(self, database: Database, name: str) -> None:
        """Load `sql/queries/{name}.sql`."""
        self._database = database
        queries = _queries(name)
        for statement in queries.available_queries:
            if not statement.endswith("_cursor"):
                setattr(self, statement, self._on_connection(getattr(queries, statement)))

    def __getattr__(self, name: str) -> Callable[..., Any]:
        """Statements are set at the start; what is missing is a mistake."""
        raise AttributeError(name)

    def _on_connection(self, statement: Any) -> Callable[..., Any]:  # noqa: ANN401 - aiosql's
        """What runs a statement.

        NOTE: one that gives a row is run without aiosql: that and a context manager take as long as
        SQLite itself takes to find a session.
        """
        one = statement.operation is aiosql.types.SQLOperationType.SELECT_ONE
        many = statement.operation is aiosql.types.SQLOperationType.SELECT
        database, text = self._database, statement.sql

        @wraps(statement)
        def run(**parameters: object) -> object:
            try:
                if one:
                    return database.connection.execute(text, parameters).fetchone()
                result = statement(database.connection, **parameters)
                return list(result) if many else result
            except sqlite3.Error as error:
                _raise_ours(error)
                raise

        return run


class Database:
    """One SQLite file, shared by the threads of this process and by other processes.

    Each thread reads on a connection of its own. Writes go through `transaction`, one at a time.
    """

    def __init__(self, path: Path, writers: int = 8) -> None:
        """Name the file, and how many threads may wait to write. Nothing is opened yet."""
        self.path = path
        self.names = Names(path)
        self.turns = Turns(Path(self.names.real), writers)
        self._look_at = 0.0  # monotonic seconds
        self._log_is_empty = False  # of a file that lost its name
        self._local = threading.local()
        self._connections: weakref.WeakSet[_Connection] = weakref.WeakSet()
        self._connecting = threading.Lock()
        self._statements = self.statements("database")

    def statements(self, name: str) -> Statements:
        """The statements of `sql/queries/{name}.sql`."""
        return Statements(self, name)

    @property
    def connection(self) -> sqlite3.Connection:
        """The calling thread's connection, opened at its first use.

        Raises Unavailable where the file was replaced or removed, LOOK_EVERY seconds ago or more.
        """
        if time.monotonic() >= self._look_at:
            self.require_in_place()
        try:
            return self._local.connection  # type: ignore[no-any-return]
        except AttributeError:
            self._local.connection = connection = self._connect()
            return connection

    @property
    def _connection_to_write(self) -> sqlite3.Connection:
        """The thread's connection. NOTE: what was opened to read alone stays so: it is replaced."""
        if getattr(self._local, "reads_only", False) and self.names.is_writable:
            self.disconnect()
        return self.connection

    def require_in_place(self) -> None:
        """Raise Unavailable where a file that was opened, or its log, has no longer the name.

        SECURITY: what is written to such a file is acknowledged and lost, and what is read there
        may be revoked in the file that took its place. SQLite notices neither. Writes look in every
        transaction; session checks every LOOK_EVERY seconds, for a look takes 5 microseconds. The
        new file is not opened: SQLite finds a file's log by name, so that both would share one.
        A restart opens it.
        """
        lost = self._lost()
        if lost:
            self._look_at = 0.0
            self._empty_log()
            raise Unavailable from lost
        self._look_at, self._log_is_empty = time.monotonic() + LOOK_EVERY, False

    def _lost(self) -> OSError | None:
        in_use = [one.beside for one in self._open()]  # read once: another thread may close its own
        return self.names.lost(beside for beside in in_use if beside)

    def _open(self) -> list[_Connection]:
        with self._connecting:
            return list(self._connections)

    def _empty_log(self, deadline: float = 0) -> None:
        """Have a file that was replaced take in its log, once.

        NOTE: so it is whole, under whatever name it has now, and whoever opens the file that took
        its place finds no log that SQLite would read into that one.
        """
        if self._log_is_empty:
            return
        with suppress(sqlite3.Error, Unavailable), self.turns.take(deadline):
            empty_log, is_ours_alone = _queries("database").empty_log, self.names.is_ours_alone
            opened = [(one, one.beside) for one in self._open()]
            ours = [one for one, beside in opened if beside and is_ours_alone(beside)]
            self._log_is_empty = not any(empty_log(one)[0] for one in ours)

    def _connect(self) -> _Connection:
        with self.names.opening():
            connection = sqlite3.connect(
                f"file:{quote(self.names.real)}?mode=rw",  # a file that is gone stays gone
                uri=True,
                isolation_level=None,
                check_same_thread=False,  # for `_empty_log` and `close`
                factory=_Connection,
            )
        try:
            self.require_in_place()  # before it finds another file's log
            connection.executescript(_CONNECTION)
        except (Unavailable, sqlite3.Error):
            connection.close()
            raise
        self._local.reads_only = not self.names.is_writable
        beside = self.names.beside
        connection.beside = beside if all(beside) else None  # none before the log is in use
        with self._connecting:
            self._connections.add(connection)
        return connection

    @contextmanager
    def transaction(self, patience: float | None = None) -> Iterator[None]:
        """Run the block's statements as one change, kept on the disk before this returns.

        Raises Unavailable where no turn comes within `patience`, LOCK_TIMEOUT seconds unless said
        otherwise, or the disk refuses.
        """
        deadline = time.monotonic() + (LOCK_TIMEOUT if patience is None else patience)
        with _translated():
            connection = self._connection_to_write
        if connection.in_transaction:
            raise RuntimeError("transactions do not nest")
        actions = self._local.actions = []
        try:
            with self.turns.take(deadline), _translated():
                try:
                    self._patiently(self._statements.begin_immediate, deadline)
                    self.require_in_place()
                    yield
                    connection.commit()
                except BaseException as error:
                    with suppress(sqlite3.Error):
                        connection.rollback()
                    if connection.in_transaction or _code_behind(error) == sqlite3.SQLITE_READONLY:
                        self.disconnect()  # which undoes it too
                    raise
        except Unavailable:
            if self._lost():  # noticed inside the turn, which emptying the log takes too
                self._empty_log(deadline)
            raise
        for action in actions:
            action()

    def _patiently(self, statement: Callable[[], Any], deadline: float) -> Any:  # noqa: ANN401
        """Run a statement as soon as no other program is in its way: those wait for no turn."""
        while True:
            try:
                return statement()
            except Unavailable as refusal:
                if _code_behind(refusal) != sqlite3.SQLITE_BUSY or time.monotonic() >= deadline:
                    raise
                time.sleep(LOCK_POLL)

    def after_commit(self, action: Callable[[], None]) -> None:
        """Call `action` when the calling thread's transaction is kept, and not if it is lost.

        At once, outside of one.
        """
        if self.connection.in_transaction:
            self._local.actions.append(action)
        else:
            action()

    def disconnect(self) -> None:
        """Close the calling thread's connection; its next use opens another.

        NOTE: SQLite's connections must not be carried through a fork.
        """
        connection = self._local.__dict__.pop("connection", None)
        if connection:
            connection.close()

    def close(self) -> None:
        """Close every thread's connection. The database is of no use after it."""
        if self._lost():
            self._empty_log()
        for connection in self._open():
            connection.close()

    @property
    def is_missing(self) -> bool:
        """Whether there is no file, or nothing in it."""
        try:
            return not self.path.stat().st_size
        except OSError:
            return True

    def create(self) -> None:
        """Make the file for its owner alone; the log files take its mode. Raises StartError.

        SECURITY: never open and close one that exists, that would drop SQLite's locks on it.
        """
        if sqlite3.sqlite_version_info < OLDEST_SQLITE:
            raise StartError(
                f"SQLite {SQLITE_VERSION} is too old: run a Python built with 3.38 or later."
            )
        self.names.check()
        is_new = create(Path(self.names.real))
        # NOTE: SQLite takes a shorter file for an empty one, and would write over it.
        if not is_new and 0 < self.path.stat().st_size < SMALLEST_FILE:
            raise sqlite3.DatabaseError("it is too short")

    def use_write_ahead_log(self) -> bool:
        """Keep a write-ahead log from now on; False where the file system cannot."""
        deadline = time.monotonic() + LOCK_TIMEOUT
        with self.turns.take(deadline):
            mode = self._patiently(self._statements.use_write_ahead_log, deadline)
        return bool(mode == "wal")


def is_spoilt(error: Unavailable | DatabaseError) -> bool:
    """Whether a file is no database, or no longer one."""
    return not isinstance(error, Unavailable) or _code_behind(error) in _SPOILT


def split(script: str) -> Iterator[str]:
    """The single statements of a script. A `;` inside a trigger does not end one."""
    pending = ""
    for line in script.splitlines(keepends=True):
        pending += line
        if sqlite3.complete_statement(pending):
            yield pending
            pending = ""


@contextmanager
def _translated() -> Iterator[None]:
    """Turn sqlite3's errors into ours; those of a mistake in the code pass."""
    try:
        yield
    except sqlite3.Error as error:
        _raise_ours(error)
        raise


def _code_behind(error: BaseException) -> int:
    """SQLite's primary result code that led to an error of ours; 0 where none did."""
    return int(getattr(error.__cause__, "sqlite_errorcode", 0)) & 0xFF


def _raise_ours(error: sqlite3.Error) -> None:
    """Raise our error for one of sqlite3's, if we have one."""
    code = getattr(error, "sqlite_errorcode", 0)
    if code in {sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY}:
        raise UniqueViolation(str(error).partition(": ")[2].partition(",")[0]) from error
    if code & 0xFF in _UNAVAILABLE:
        raise Unavailable from error
