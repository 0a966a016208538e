"""Connections to a PostgreSQL server: how they are made, and how long they wait for an answer."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.types.numeric import Int8Dumper

from authapi.database.postgresql.errors import StandbyError
from authapi.database.statements import SQL

INTERVAL = 0.05  # seconds between two looks at the clock while the server does not answer

Cursor = psycopg.Cursor[tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Seconds until a server that does not answer counts as unavailable."""

    connect: int = 3
    change: float = 5  # for each statement of a transaction; waits for locks end a second earlier
    check: float = 1  # for a statement outside a transaction


class Connection(psycopg.Connection[tuple[Any, ...]]):
    """A connection that waits for each answer until a deadline only.

    NOTE: a server that hangs acknowledges what it is sent, so no timeout of TCP notices.
    """

    patience: float | None = None  # seconds for each statement; None: without end
    opened_at = 0.0  # monotonic seconds
    is_overdue = False  # an answer did not come in time
    warned = False  # the server sent a warning

    def wait(self, gen: Generator[Any, Any, Any], *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - psycopg's
        """Run psycopg's generator. Raises OperationalError at the deadline, and closes."""
        if self.patience is None:
            return super().wait(gen, *args, **kwargs)
        return super().wait(self._until(gen, time.monotonic() + self.patience), INTERVAL)

    def _until(self, gen: Generator[Any, Any, Any], deadline: float) -> Generator[Any, Any, Any]:
        """Pass on what a generator waits for, until the deadline."""
        try:
            wanted = next(gen)
            while True:
                ready = yield wanted
                if ready:
                    wanted = gen.send(ready)
                elif time.monotonic() >= deadline:
                    self.is_overdue = True
                    self.pgconn.finish()
                    raise psycopg.OperationalError("the server did not answer in time")
        except StopIteration as end:
            return end.value


def limits_of(deadlines: Deadlines) -> list[str]:
    """Return the names of the server's own limits for a connection, each with its milliseconds.

    They end what a process has left behind which hangs or lost its network.
    """
    change = int(deadlines.change * 1000)
    limits = {
        "lock_timeout": change * 4 // 5,
        "statement_timeout": 2 * change,
        "idle_in_transaction_session_timeout": 3 * change,
    }
    return [str(each) for pair in limits.items() for each in pair]


class Connector:
    """Opens connections to the server of a URL, and measures how far its clock is ahead.

    `offset` is the server's clock minus this machine's, in seconds, as of the last connect.
    """

    setup = (SQL / "postgresql" / "connection.sql").read_text()

    def __init__(self, url: str, deadlines: Deadlines, wall: Callable[[], float]) -> None:
        """Take the URL, the deadlines, and this machine's clock. Connect to nothing."""
        self.url, self.deadlines = url, deadlines
        self.offset = 0.0
        self._wall = wall
        self.parameters = self._parameters()

    def connect(self) -> Connection:
        """Return a new connection. Raises psycopg.Error."""
        connection = Connection.connect(
            self.url,
            autocommit=True,
            prepare_threshold=0,
            cursor_factory=psycopg.RawCursor,
            client_encoding="UTF8",
            **self.parameters,
        )
        try:
            connection.opened_at = time.monotonic()
            connection.patience = self.deadlines.connect
            connection.adapters.register_dumper(int, Int8Dumper)
            connection.add_notice_handler(lambda _: setattr(connection, "warned", True))
            _require_primary(connection)
            self._set_up(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _parameters(self) -> dict[str, Any]:
        """Return what a connection needs beside the URL, which wins where it says so too."""
        given = conninfo_to_dict(self.url)
        ours: dict[str, Any] = {
            "connect_timeout": self.deadlines.connect,
            "application_name": "authapi",
            "keepalives_idle": 10,
            "tcp_user_timeout": int(self.deadlines.change * 1000),
        }
        if "," in str(given.get("host", "")):
            ours["target_session_attrs"] = "read-write"
        environment = {
            "application_name": "PGAPPNAME",
            "connect_timeout": "PGCONNECT_TIMEOUT",
            "target_session_attrs": "PGTARGETSESSIONATTRS",
        }
        return {
            name: value
            for name, value in ours.items()
            if name not in given and environment.get(name, "") not in os.environ
        }

    def _set_up(self, connection: Connection) -> None:
        """Set the limits, and compare the clocks: the answer is half a round trip old."""
        limits = limits_of(self.deadlines)
        before = self._wall()
        row = connection.execute(self.setup.encode(), limits, prepare=False).fetchone()
        after = self._wall()
        if row:
            self.offset = float(row[0]) - (before + after) / 2


def _require_primary(connection: Connection) -> None:
    """Raise StandbyError where the server is a standby.

    SECURITY: it learns late which sessions have ended.
    """
    if connection.info.parameter_status("in_hot_standby") == "on":
        raise StandbyError("the server is a standby, which can only be read")


def close(connection: Connection) -> None:
    """Close a connection, in whatever state it is."""
    with suppress(psycopg.Error):
        connection.close()
