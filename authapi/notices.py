"""Log lines about refused requests, limited so that a flood cannot fill the log."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

import msgspec

from authapi.background import BackgroundService
from authapi.hosts import networks_of

INTERVAL = 60  # seconds between two lines about one kind of refusal and one network
MOST_NETWORKS = 256  # that have lines of their own in an interval; all others share one

OTHERS = "others"  # the name of that shared network

LONGEST_QUOTE = 100  # characters

logger = logging.getLogger("authapi.refusals")


def quoted(text: str) -> str:
    """Return a client's text for a log line: quoted, escaped and cut to LONGEST_QUOTE."""
    return repr(text[:LONGEST_QUOTE])


class _Line(msgspec.Struct):
    """The last line about a kind and a network, and the number of refusals since."""

    written_at: float
    left_out: int = 0


class Notices(BackgroundService):
    """Logs which requests are refused, and why (OWASP ASVS 16.3.2, 16.3.3).

    The first refusal of a kind from a network is logged at once. Further ones are counted, and the
    count is logged when INTERVAL has passed.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        """Take a clock that returns seconds."""
        self._clock = clock
        super().__init__()

    def begin(self) -> None:
        """Forget what was logged: a forked child writes lines of its own."""
        self._lock = threading.Lock()
        self._lines: dict[tuple[str, str], _Line] = {}
        self._said: set[str] = set()

    def refused(self, kind: str, address: str, detail: str = "") -> None:
        """Log that a request was refused.

        `kind` is the failure's error name and what distinguishes its kinds, such as
        `too_many_requests limit=login-network`. `address` is the client's; the first line also has
        `detail`.

        SECURITY: neither may contain a name, a secret, or text of a client that is not `quoted`.
        """
        now = self._clock()
        with self._lock:
            self._forget(now)
            network = networks_of(address)[0]
            if (kind, network) not in self._lines and len(self._lines) >= MOST_NETWORKS:
                network = OTHERS
            known = self._lines.get((kind, network))
            if known:
                known.left_out += 1
                return
            self._lines[kind, network] = _Line(now)
        fields = {"event": "refused", "error": kind.partition(" ")[0], "network": network}
        logger.info(
            "refused error=%s network=%s %s", kind, network, detail, extra={"fields": fields}
        )

    def once(self, kind: str, text: str, *arguments: object) -> None:
        """Log a warning, once in this process for each kind."""
        with self._lock:
            if kind in self._said:
                return
            self._said.add(kind)
        logger.warning(text, *arguments)

    def wake(self) -> None:
        """Log the counts that are due, even if no further request comes."""
        with self._lock:
            self._forget(self._clock())

    def _forget(self, now: float) -> None:
        """Drop lines older than INTERVAL, or from a clock that was set back, and log their counts.

        NOTE: the lines are in the order of writing, so a flood looks at the first one only.
        """
        while self._lines:
            (kind, network), line = next(iter(self._lines.items()))
            if abs(now - line.written_at) < INTERVAL:
                return
            del self._lines[kind, network]
            if line.left_out:
                logger.info(
                    "refused error=%s network=%s %d more times", kind, network, line.left_out
                )
