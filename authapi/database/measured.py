"""The database, measured: how long changes wait and take, and why they are refused."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import Any, cast

from authapi.database import Database
from authapi.errors import Failure, Unavailable
from authapi.metrics import Metrics
from authapi.settings import DatabaseSettings, Settings

_CAUSES = {  # by the beginning of SQLite's name of an error
    "SQLITE_BUSY": "busy",
    "SQLITE_LOCKED": "busy",
    "SQLITE_FULL": "full",
    "SQLITE_READONLY": "read_only",
    "SQLITE_CORRUPT": "damaged",
    "SQLITE_NOTADB": "damaged",
    "SQLITE": "disk",
}
CAUSES = (*dict.fromkeys(_CAUSES.values()), "replaced", "away")


def cause_of(error: BaseException | None) -> str:
    """Return one of CAUSES for what led to an Unavailable.

    A time that ran out is `busy`: another writer, or the connections to a server. What is neither
    SQLite's nor the system's comes from a server that is away.
    """
    name = getattr(error, "sqlite_errorname", "")
    if name:
        return next((word for prefix, word in _CAUSES.items() if name.startswith(prefix)), "disk")
    if isinstance(error, TimeoutError):
        return "busy"
    if isinstance(error, OSError):
        return "replaced" if error.errno == errno.ESTALE else "disk"
    return "away"


class _Measured:
    """A database that observes its transactions; all else is the database's own."""

    def __init__(self, database: Database, metrics: Metrics) -> None:
        self._database = database
        self._waits = metrics.histogram(
            "authapi_db_write_wait_seconds", "Time that a change waits until it can begin."
        )
        self._writes = metrics.histogram(
            "authapi_db_write_seconds", "Time from the beginning of a change until it is committed."
        )

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - of the database
        return getattr(self._database, name)

    @contextmanager
    def transaction(self, *arguments: Any, **options: Any) -> Iterator[None]:  # noqa: ANN401
        asked = perf_counter()
        with self._database.transaction(*arguments, **options):
            begun = perf_counter()
            self._waits.observe(begun - asked)
            yield
        self._writes.observe(perf_counter() - begun)


def measured(database: Database, settings: Settings, metrics: Metrics) -> Database:
    """Return a database whose changes are measured; the database itself where metrics are off."""
    if not metrics.collects:
        return database
    refused = {
        cause: metrics.counter(
            "authapi_db_unavailable_total",
            "Requests that were refused because of the database, by cause.",
            cause=cause,
        )
        for cause in CAUSES
    }

    def count(_route: str, failure: Failure) -> None:
        if isinstance(failure, Unavailable):
            refused[cause_of(failure.__cause__)].add()

    metrics.watch_failures(count)
    if database.is_local:
        path = os.path.realpath(settings.of(DatabaseSettings).database_path)
        metrics.shared_gauge("authapi_db_bytes", "Size of the database file.", lambda: _size(path))
        metrics.shared_gauge(
            "authapi_db_wal_bytes", "Size of the write-ahead log.", lambda: _size(f"{path}-wal")
        )
    return cast("Database", _Measured(database, metrics))


def _size(path: str) -> float | None:
    try:
        return os.stat(path).st_size  # noqa: PTH116 - a text
    except OSError:
        return None
