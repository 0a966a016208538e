"""One of several worker processes, as their parent knows it: when it is started again."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass

SOON = 10  # seconds; a worker that falls within them fell at once
MOST_FALLS = 5  # in a row, each at once: where all workers have so many, the parent gives up
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 10.0  # seconds before one that fell at once is started again


@dataclass
class Worker:
    """A worker that runs or is to be started; times are monotonic seconds."""

    number: int
    pid: int = 0  # while it runs
    began: float = 0.0
    falls: int = 0  # in a row, each at once
    due: float = 0.0  # when to start it

    def fall(self, now: float) -> float:
        """Note that it has ended; return the seconds until it is started again.

        They double with each fall at once. A worker that ran for SOON is started again at once.
        """
        self.falls = self.falls + 1 if now - self.began < SOON else 0
        # NOTE: not 2**falls, which some day is too large for a float.
        pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(self.falls, 9)) if self.falls else 0
        self.due = now + pause
        return pause

    def never_stays_up(self, now: float) -> bool:
        """Return whether it has fallen so often at once, and has not run for long since."""
        return self.falls >= MOST_FALLS and (not self.pid or now - self.began < SOON)


class Readiness:
    """A pipe on which workers tell their parent that they are ready."""

    def __init__(self) -> None:
        """Open the pipe. Neither end ever waits."""
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._reader, False)
        os.set_blocking(self._writer, False)  # nobody reads any more once all were ready

    def tell(self, number: int) -> None:
        """Say that a worker is ready, in that worker."""
        with suppress(BlockingIOError, BrokenPipeError):  # full, or the parent has ended
            os.write(self._writer, bytes([number]))

    def heard(self) -> set[int]:
        """Return the workers that have said so since the last call."""
        with suppress(BlockingIOError):
            return set(os.read(self._reader, 65_536))
        return set()

    def close_reader(self) -> None:
        """Close the parent's end, in a worker."""
        os.close(self._reader)

    def close(self) -> None:
        """Close both ends."""
        os.close(self._reader)
        os.close(self._writer)
