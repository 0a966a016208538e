"""The database as the service uses it: named statements and transactions, whatever the engine.

An engine is a package beside this file and the only place that imports its driver: `sqlite`, and
`postgresql`. `opening` chooses the engine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

import msgspec

from authapi.database.statements import Statements

__all__ = [
    "Contents",
    "Database",
    "Key",
    "NoConnection",
    "Pipeline",
    "Row",
    "Statements",
    "UniqueViolation",
]

Key = tuple[str | int, ...]  # by which a pipeline looks a row up
Row = tuple[Any, ...]


class UniqueViolation(Exception):
    """Raised when a row has a value that must be unique and another row has already."""

    def __init__(self, column: str) -> None:
        """Take the index's first column, as `table.column`."""
        super().__init__(column)
        self.column = column


class NoConnection(Exception):
    """Raised when there is no connection for look-ups, and the ordinary ones may answer."""


class Contents(msgspec.Struct, frozen=True):
    """What a database file holds: its schema's version, rows, bytes, and a table with an orphan.

    An orphan is a row that refers to one that is not there.
    """

    schema: int
    users: int
    sessions: int
    size: int
    orphan: str


class Pipeline(Protocol):
    """Looks rows up by keys, in batches, for a loop that must not wait. No method waits.

    A server that answers in its loop calls them there, and watches the descriptor for answers.
    """

    @property
    def deadline(self) -> float:
        """Return the seconds until a database that does not answer counts as away."""

    @property
    def descriptor(self) -> int | None:
        """The descriptor that can be read when an answer has come; None without a connection."""

    @property
    def is_worn(self) -> bool:
        """Return whether the connection should be replaced, once no batch is under way."""

    def is_ready(self, wake: Callable[[], None]) -> bool:
        """Return whether keys can be sent. If not, a thread connects, and calls `wake` after that.

        Raises Unavailable while the database is away, and NoConnection.
        """

    def send(self, keys: Sequence[Key]) -> None:
        """Send a batch of keys. Raises ConnectionError for a connection that was lost."""

    def push(self) -> bool:
        """Send what the socket did not take; return whether something is left.

        Raises ConnectionError.
        """

    def receive(self) -> list[list[Row | None]]:
        """Return the rows of the batches that were answered, oldest first, by the keys' places.

        Raises ConnectionError for a connection that was lost, and NoConnection where the server
        cannot run the statement. No batch under way is answered then.
        """

    def drop(self) -> None:
        """Close the connection. The next `is_ready` opens another one."""

    def fail(self) -> None:
        """Drop the connection, because the server does not answer: it is away until it does.

        Raises Unavailable.
        """

    def close(self) -> None:
        """Close the connection. No other is opened."""


class Database(Protocol):
    """One database, shared by the threads of this process and by other processes."""

    @property
    def description(self) -> str:
        """Return where the database is and the engine's version, without a password."""

    @property
    def is_new(self) -> bool:
        """Return whether opening the database made it."""

    @property
    def is_local(self) -> bool:
        """Whether a read takes microseconds, so that the server's loop may wait for it."""

    @property
    def is_stuck(self) -> bool:
        """Return whether changes have waited unusually long, so that more of them would pile up."""

    @property
    def is_blocked(self) -> bool:
        """Return whether no change could begin for 5 seconds, although some were tried."""

    def statements(self, name: str) -> Statements:
        """Return the statements of `sql/queries/{name}.sql`, with the engine's own on top."""

    def pipeline(self, statement: str) -> Pipeline | None:
        """Return what looks rows up for a server's loop, unconnected; None where `is_local`.

        The statement is named as `sessions.authenticate_all`, where `sessions` names its file.
        """

    def transaction(
        self,
        patience: float | None = None,
        *,
        of: int | Iterable[int] | None = None,
        at_once: bool = True,
    ) -> AbstractContextManager[None]:
        """Run the block's statements as one change, which is on the disk when the block is left.

        A change to a user's rows passes the user's id as `of`, and one to several users' rows all
        their ids: an engine with many writers makes such changes of a user one after the other, and
        they never wait for each other in a circle. Any exception in the block undoes the change.
        After an error of the database in the block, no further statement may run in it.
        Transactions do not nest. A change that need not be on the disk `at_once` may be lost in a
        crash of the database, unless another change was kept after it.

        Raises Unavailable where the change cannot begin within `patience` seconds, or the engine
        refuses it.
        """

    def reading(self) -> AbstractContextManager[None]:
        """Let the block's statements read the same state, where that is quicker for the engine.

        It is the newest state at the first of them. A transaction in the block ends that.
        """

    def after_commit(self, action: Callable[[], None]) -> None:
        """Call `action` after the calling thread's transaction is committed; never if it is not.

        Outside a transaction it is called at once.
        """

    def clock(self, local: Callable[[], float]) -> Callable[[], float]:
        """Return the clock that all processes of the database share, in seconds since the epoch.

        `local` is this machine's clock, which it is where the database is on this machine.
        """

    def maintain(self) -> None:
        """Notice a database that was lost or replaced. Raises Unavailable.

        A server's loop calls this about once a second where the database `is_local`. Elsewhere a
        thread does, because it waits for an answer.
        """

    def prepare_to_fork(self) -> None:
        """Close what must not be carried through a fork; it opens again at its next use."""

    def close(self) -> None:
        """Close every connection. The database cannot be used afterwards."""
