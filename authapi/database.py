"""The only module that knows sqlite3: connections, turns to write, transactions, errors.

Statements stand in `sql/`; repositories get them by file with `Database.statements`.
"""

from __future__ import annotations

import errno
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
from authapi.files import LOCK_POLL, create, file_locked, identity

SQLITE_VERSION = sqlite3.sqlite_version
OLDEST_SQLITE = (3, 38)  # has STRICT tables and unixepoch()
SMALLEST_FILE = 512  # bytes: one page
LOCK_TIMEOUT = 5.0  # seconds that a write waits for its turn
LOOK_EVERY = 0.01  # seconds from one look at the file's name to the next

# In the wheel sql/ lies inside the package, in a checkout beside it.
_PACKAGED = Path(__file__).parent / "sql"
SQL = _PACKAGED if _PACKAGED.is_dir() else Path(__file__).parents[1] / "sql"

_PASSING = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_READONLY,
    }
)


class UniqueViolation(Exception):
    """A row that collides with another one; `column` is `table.column`."""

    def __init__(self, column: str) -> None:
        """Take the first column of the index."""
        super().__init__(column)
        self.column = column


class _Connection(sqlite3.Connection):
    """A connection that is closed with the thread that it belonged to."""

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
    Unavailable for what passes: a locked, full or read-only database.
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

    def __init__(self, path: Path) -> None:
        """Name the file. Nothing is opened yet."""
        self.path = path
        self._name = str(path)
        self._opened: tuple[int, int] | None = None  # which file it is, once it was opened
        self._look_at = 0.0  # monotonic seconds
        self._log_is_empty = False  # of a file that was replaced
        self._local = threading.local()
        self._connections: weakref.WeakSet[_Connection] = weakref.WeakSet()
        self._writer = threading.Lock()
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
            self._require_in_place()
        try:
            return self._local.connection  # type: ignore[no-any-return]
        except AttributeError:
            self._local.connection = connection = self._connect()
            return connection

    def _require_in_place(self) -> None:
        """Raise Unavailable where the file that was opened has no longer the name.

        SECURITY: what is written to such a file is acknowledged and lost, and what is read there
        may be revoked in the file that took its place. SQLite notices neither. Writes look in every
        transaction; session checks every LOOK_EVERY seconds, for a look takes 3 microseconds. The
        new file is not opened: SQLite finds a file's log by name, so that both would share one.
        A restart opens it.
        """
        if self._lost_its_name():
            with suppress(AttributeError):  # this thread has none
                self._empty_log(self._local.connection)
            raise Unavailable from OSError(
                errno.ESTALE, "replaced or removed while in use, restart the service", self._name
            )
        self._look_at = time.monotonic() + LOOK_EVERY

    def _lost_its_name(self) -> bool:
        return self._opened is not None and self._opened != identity(self._name)

    def _empty_log(self, connection: sqlite3.Connection) -> None:
        """Have a file that was replaced take in its log, once.

        NOTE: so it is whole, under whatever name it has now, and the next start finds no log that
        SQLite would read into the file that took its place.
        """
        if not self._log_is_empty:
            with suppress(sqlite3.Error, Unavailable), self._turn(0):
                busy, *_ = _queries("database").empty_log(connection)
                self._log_is_empty = not busy

    def _connect(self) -> _Connection:
        opened = self._opened or identity(self._name)
        # NOTE: other threads touch a connection only to close it, when the service has stopped.
        connection = sqlite3.connect(
            f"file:{quote(str(self.path))}?mode=rw",  # a file that is gone stays gone
            uri=True,
            isolation_level=None,
            check_same_thread=False,
            factory=_Connection,
        )
        self._opened = opened
        try:
            self._require_in_place()
        except Unavailable:
            connection.close()  # before it finds the other file's log
            raise
        self._connections.add(connection)
        connection.executescript((SQL / "connection.sql").read_text())
        return connection

    @contextmanager
    def transaction(self, patience: float | None = None) -> Iterator[None]:
        """Run the block's statements as one change, kept on the disk before this returns.

        Raises Unavailable where no turn comes within `patience`, LOCK_TIMEOUT seconds unless said
        otherwise, or the disk refuses.
        """
        deadline = time.monotonic() + (LOCK_TIMEOUT if patience is None else patience)
        self._require_in_place()
        with _translated():
            connection = self.connection
        if connection.in_transaction:
            raise RuntimeError("transactions do not nest")
        actions = self._local.actions = []
        with self._turn(deadline), _translated():
            try:
                self._patiently(self._statements.begin_immediate, deadline)
                self._require_in_place()
                yield
                connection.commit()
            except BaseException as error:
                with suppress(sqlite3.Error):
                    connection.rollback()
                # NOTE: closing undoes it too; and what was opened to read alone stays so.
                if connection.in_transaction or _code_behind(error) == sqlite3.SQLITE_READONLY:
                    self.disconnect()
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

    @contextmanager
    def _turn(self, deadline: float) -> Iterator[None]:
        """Be the only writer, of all threads and processes; `deadline` is in monotonic seconds.

        NOTE: SQLite's busy handler is unfair under load, and builds before 3.51.3 can lose a
        transaction when one connection writes while another checkpoints. A commit checkpoints
        inside this lock, so one at a time it is.
        """
        if not self._writer.acquire(timeout=max(0, deadline - time.monotonic())):
            raise Unavailable from TimeoutError("other threads kept on writing")
        try:
            with file_locked(f"{self.path}.lock", deadline):
                yield
        finally:
            self._writer.release()

    def disconnect(self) -> None:
        """Close the calling thread's connection; its next use opens another.

        NOTE: SQLite's connections must not be carried through a fork.
        """
        connection = self._local.__dict__.pop("connection", None)
        if connection:
            connection.close()

    def close(self) -> None:
        """Close every thread's connection. The database is of no use after it."""
        replaced = self._lost_its_name()
        for connection in list(self._connections):
            if replaced:
                self._empty_log(connection)
            connection.close()

    def create(self) -> None:
        """Make the file for its owner alone; the log files take its mode.

        SECURITY: never open and close one that exists, that would drop SQLite's locks on it.
        """
        if sqlite3.sqlite_version_info < OLDEST_SQLITE:
            raise StartError(
                f"SQLite {SQLITE_VERSION} is too old: run a Python built with 3.38 or later."
            )
        is_new = create(self.path)
        # NOTE: SQLite takes a shorter file for an empty one, and would write over it.
        if not is_new and 0 < self.path.stat().st_size < SMALLEST_FILE:
            raise sqlite3.DatabaseError("it is too short")

    def use_write_ahead_log(self) -> bool:
        """Keep a write-ahead log from now on; False where the file system cannot."""
        deadline = time.monotonic() + LOCK_TIMEOUT
        with self._turn(deadline):
            mode = self._patiently(self._statements.use_write_ahead_log, deadline)
        return bool(mode == "wal")


@contextmanager
def as_start_errors(path: Path) -> Iterator[None]:
    """Turn what can be wrong with a database file at a start into StartError."""
    try:
        yield
    except Unavailable as unavailable:
        raise StartError(
            f"The database {path} cannot be used ({unavailable.__cause__}): "
            "let this user write to it and its directory, or stop what keeps it locked."
        ) from unavailable
    except sqlite3.DatabaseError as error:
        raise StartError(
            f"{path} is no SQLite database that can be used ({error}): "
            "move it away, or set another AUTHAPI_DATABASE_URL."
        ) from error
    except OSError as error:
        raise StartError(
            f"The database {path} cannot be written ({error.strerror}): make its directory and "
            "let this user write there, or set another AUTHAPI_DATABASE_URL."
        ) from error


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
    if isinstance(error, sqlite3.OperationalError) and code & 0xFF in _PASSING:
        raise Unavailable from error
