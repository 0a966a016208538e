"""The circuit: while the database is away, nothing waits for it, and one thread looks for it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from authapi.errors import Unavailable
from authapi.signals import kept_from_threads

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 1.0  # seconds between two tries to connect
CLOSE_WAIT = 4  # seconds that `close` waits for a try

logger = logging.getLogger("authapi.database")


class Circuit:
    """Is open while the database does not answer.

    `fail` opens it. A thread then calls `attempt` again and again, which raises Unavailable until
    the database answers; that closes the circuit.
    """

    def __init__(self, attempt: Callable[[], None]) -> None:
        """Take what tries to reach the database. Start no thread."""
        self._attempt = attempt
        self._lock = threading.Lock()
        self._ends = threading.Event()
        self._thread: threading.Thread | None = None
        self._cause: BaseException | None = None

    @property
    def is_open(self) -> bool:
        """Whether the database was away a moment ago."""
        return self._cause is not None

    def require_closed(self) -> None:
        """Raise Unavailable while the circuit is open: the log has the cause already."""
        if self._cause is not None:
            raise Unavailable

    def fail(self, cause: BaseException) -> None:
        """Open the circuit, unless it is open."""
        with self._lock:
            if self._cause is not None:
                return
            self._cause = cause
            self._ends.clear()
            thread = threading.Thread(target=self._mend, name="authapi-database", daemon=True)
            try:
                with kept_from_threads():
                    thread.start()
            except RuntimeError:  # the system has no thread left: the next failure tries again
                self._cause = None
                return
            self._thread = thread
        logger.error("the database does not answer (%s)", _line(cause))

    def close(self) -> bool:
        """End the thread; return whether it has ended. The circuit is closed then."""
        self._ends.set()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(CLOSE_WAIT)
            return not thread.is_alive()
        return True

    def _mend(self) -> None:
        pause = FIRST_PAUSE
        while not self._ends.wait(pause):
            try:
                self._attempt()
            except Unavailable as unavailable:
                self._cause = unavailable.__cause__ or unavailable
                pause = min(2 * pause, LONGEST_PAUSE)
            else:
                logger.warning("the database answers again")
                break
        self._cause = None


def _line(cause: BaseException) -> str:
    """Return an error's text on one line: libpq has a line for each host."""
    return " ".join(str(cause).split())
