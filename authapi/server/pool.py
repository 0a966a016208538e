"""The thread pool: it runs requests that may wait, and networks take turns."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from typing import Protocol

from authapi.server.fairness import FairQueue

RESERVED = 4  # one thread in so many is kept free of any one network

logger = logging.getLogger("authapi.server")


class Job(Protocol):
    """A connection with a request to answer."""

    @property
    def networks(self) -> tuple[str, ...]:
        """The networks of its client, widest first."""

    def run(self) -> None:
        """Answer the request."""

    def cancel(self) -> None:
        """Give up the request, which will not be answered."""


class Pool:
    """Threads that answer requests. They replace waitress's, which serves in order of arrival.

    Networks take turns, and one network has at most three quarters of the threads at once. So when
    its requests take long, those of other networks still find a thread.
    """

    def __init__(self, threads: int) -> None:
        """Start so many threads."""
        self._most = max(1, threads - threads // RESERVED)
        self._jobs: FairQueue[tuple[tuple[str, ...], Job]] = FairQueue()
        self._running: Counter[str] = Counter()
        self._full: set[str] = set()  # networks that have as many threads as they may
        self._wakes = threading.Condition()
        self._ends = False
        self.threads = [
            threading.Thread(target=self._work, name=f"authapi-{number}", daemon=True)
            for number in range(threads)
        ]
        for thread in self.threads:
            thread.start()

    def add(self, job: Job) -> None:
        """Run a job when it is its network's turn."""
        with self._wakes:
            self._jobs.put(job.networks, (job.networks, job))
            self._wakes.notify()

    def shutdown(self, seconds: float) -> None:
        """Cancel the jobs that wait, and wait for the threads, for so many seconds at most.

        `threads` then has those that have not ended.
        """
        with self._wakes:
            self._ends = True
            while (waiting := self._jobs.get()) is not None:
                waiting[1].cancel()
            self._wakes.notify_all()
        deadline = time.monotonic() + seconds
        for thread in self.threads:
            thread.join(max(0, deadline - time.monotonic()))
        self.threads = [thread for thread in self.threads if thread.is_alive()]

    def _work(self) -> None:
        while (taken := self._take()) is not None:
            networks, job = taken
            try:
                job.run()
            except BaseException:  # nothing is above a thread
                logger.exception("a request failed outside of the application")
            del taken, job  # they hold a request
            self._give_back(networks)

    def _take(self) -> tuple[tuple[str, ...], Job] | None:
        """Wait for the next job; return None at the end."""
        with self._wakes:
            while not self._ends:
                taken = self._jobs.get(self._full)
                if taken is not None:
                    self._count(taken[0], 1)
                    return taken
                self._wakes.wait()
        return None

    def _give_back(self, networks: tuple[str, ...]) -> None:
        with self._wakes:
            self._count(networks, -1)
            if self._jobs:
                self._wakes.notify()

    def _count(self, networks: tuple[str, ...], change: int) -> None:
        for network in networks:
            self._running[network] += change
            if self._running[network] >= self._most:
                self._full.add(network)
            else:
                self._full.discard(network)
            if not self._running[network]:
                del self._running[network]
