"""Log lines about refused requests, limited so that a flood cannot fill the log."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass

from authapi.background import BackgroundService
from authapi.hosts import networks_of

INTERVAL = 60  # seconds between two lines about one kind of refusal and one network
MOST_NETWORKS = 256  # that have lines of their own in an interval; all others share one

OTHERS = "others"  # the network that is named for those

LONGEST_QUOTE = 100  # characters

logger = logging.getLogger("authapi.refusals")


def quoted(text: str) -> str:
    """Return a client's text as a log line may hold it: quoted, escaped and cut."""
    return repr(text[:LONGEST_QUOTE])


@dataclass(slots=True)
class _Line:
    """The last line about a kind and a network: when it was written, and what came after it."""

    written_at: float
    left_out: int = 0


class Notices(BackgroundService):
    """Tells an operator which requests are refused, and why (ASVS 16.3.2, 16.3.3).

    The first refusal of a kind from a network is logged at once. Further ones are counted, and the
    count is logged when INTERVAL has passed.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        """Take a clock, in seconds."""
        self._clock = clock
        super().__init__()

    def begin(self) -> None:
        """Have logged nothing yet."""
        self._lock = threading.Lock()
        self._lines: dict[tuple[str, str], _Line] = {}
        self._said: set[str] = set()

    def refused(self, kind: str, address: str, detail: str = "") -> None:
        """Log that a request was refused.

        `kind` is the failure's error name, with what tells its kinds apart, such as
        `too_many_requests limit=login-network`. `address` is the client's, and `detail` holds
        further words for the first line. SECURITY: neither may hold a name, a secret or text of the
        client's that is not quoted by `repr`.
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
        logger.info("refused error=%s network=%s %s", kind, network, detail)

    def once(self, kind: str, text: str, *arguments: object) -> None:
        """Log a warning, the first time in this process that it is called with a kind."""
        with self._lock:
            if kind in self._said:
                return
            self._said.add(kind)
        logger.warning(text, *arguments)

    def wake(self) -> None:
        """Log the counts that are due, also where no further request comes."""
        with self._lock:
            self._forget(self._clock())

    def _forget(self, now: float) -> None:
        """Drop the lines that are old enough, or of a clock that was set back.

        NOTE: they are in the order in which they were written, so a flood looks at one.
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
