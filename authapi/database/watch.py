"""The database as a background service: it is watched, and closed with the application."""

from __future__ import annotations

import errno
import logging
import threading
import time
from contextlib import suppress

from authapi.background import BackgroundService
from authapi.database import Database
from authapi.errors import Unavailable
from authapi.signals import kept_from_threads

LOOK_EVERY = 1.0  # seconds between two looks that a question for the fault causes
CLOSE_WAIT = 4.0  # seconds that `close` waits for such a look

logger = logging.getLogger("authapi")


class DatabaseWatch(BackgroundService):
    """Notices a database that was replaced, removed or lost, also while no request comes."""

    def __init__(self, database: Database) -> None:
        """Take the database."""
        self._database = database
        self._loss: BaseException | None = None  # what the last look at a local database found
        super().__init__()

    def begin(self) -> None:
        """Forget the time of the last look, and its thread."""
        self._looked_at = 0.0
        self._thread: threading.Thread | None = None

    def wake(self) -> None:
        """Log once that a database on this machine is not in its place."""
        if not self._database.is_local:
            return
        self._looked_at = time.monotonic()
        try:
            self._database.maintain()
        except Unavailable as unavailable:
            if self._loss is None:
                logger.error("%s", unavailable.__cause__)  # noqa: TRY400 - it has no traceback
            self._loss = unavailable.__cause__ or unavailable
        else:
            self._loss = None

    def fault(self) -> str | None:
        """Return what is wrong with the database, or None.

        NOTE: a server that does not wake services asks for this, and so does one whose database is
        on another machine, where only a thread may look. Its finding is in the next answer.
        """
        if self._database.is_local:
            if time.monotonic() - self._looked_at > LOOK_EVERY:
                self.wake()
        elif time.monotonic() - self._looked_at > LOOK_EVERY and not self._is_looking:
            self._looked_at = time.monotonic()
            self._look()
        if self._loss is not None:
            is_replaced = getattr(self._loss, "errno", None) == errno.ESTALE
            return "database_replaced" if is_replaced else "database_unavailable"
        if not self._database.is_local and self._database.is_stuck:
            return "database_unavailable"
        return "writes_blocked" if self._database.is_blocked else None

    def before_fork(self) -> None:
        """Close this thread's connection."""
        self._end_look()
        self._database.prepare_to_fork()

    def close(self) -> bool:
        """Close every connection."""
        self._end_look()
        self._database.close()
        return True

    @property
    def _is_looking(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def _look(self) -> None:
        """Start a thread that reads from the database; the circuit opens where that fails."""
        thread = threading.Thread(target=self._probe, name="authapi-watch", daemon=True)
        with suppress(RuntimeError), kept_from_threads():  # the system may have no thread left
            thread.start()
            self._thread = thread

    def _end_look(self) -> None:
        if self._thread is not None:
            self._thread.join(CLOSE_WAIT)

    def _probe(self) -> None:
        with suppress(Unavailable):
            self._database.maintain()
