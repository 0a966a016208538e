"""Metrics: the numbers that parts and features declare, in one map that all workers share.

A worker writes into the block of its index, and a worker that takes its place goes on there. So no
counter ever falls, and nothing is on the disk. Where metrics are off, nothing is kept or counted.
"""

from __future__ import annotations

import mmap
import threading
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, MutableSequence, Sequence
from contextlib import contextmanager
from time import perf_counter
from typing import Any

import msgspec

from authapi.background import BackgroundService
from authapi.errors import Failure

DOUBLE = 8  # bytes
SECONDS = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05),
    *(0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)  # upper bounds of the buckets of a histogram

Labels = tuple[str, ...]
Cells = MutableSequence[float]
Read = Callable[[], float | None]


class Family(msgspec.Struct):
    """All numbers of one name. `cells` has the place of each, by the values of its labels.

    `kind` is counter, histogram, gauge, or a gauge of another kind: worker (with a value for each
    worker), latest (the largest counts), or shared (the same in all, and read when asked for).
    """

    name: str
    help: str
    kind: str
    labels: Labels
    cells: dict[Labels, int] = msgspec.field(default_factory=dict)
    shared: dict[Labels, Read] = msgspec.field(default_factory=dict)
    hides_zero: bool = False


class Counter:
    """A number that only rises."""

    def __init__(self, metrics: Metrics | None = None, at: int = 0) -> None:
        """Take the metrics and the place; without them, count nothing."""
        self._metrics, self._at = metrics, at

    def add(self, amount: float = 1) -> None:
        """Count, in any thread."""
        if self._metrics is not None:
            with self._metrics.lock:
                self._metrics.threads[self._at] += amount


class Latest:
    """A number that any worker sets. The largest counts, and none is shown until then."""

    def __init__(self, metrics: Metrics, at: int) -> None:
        """Take the metrics and the place."""
        self._metrics, self._at = metrics, at

    def set(self, value: float) -> None:
        """Set the number of this worker."""
        self._metrics.threads[self._at] = value


class Histogram:
    """How many observations fell into each of the SECONDS, and their sum."""

    def __init__(self, metrics: Metrics | None = None, at: int = 0) -> None:
        """Take the metrics and the place; without them, observe nothing."""
        self._metrics, self._at = metrics, at

    def observe(self, seconds: float) -> None:
        """Observe a time, in any thread."""
        if self._metrics is not None:
            with self._metrics.lock:
                note(self._metrics.threads, self._at, seconds)

    @contextmanager
    def time(self) -> Iterator[None]:
        """Observe how long the block takes, if it raises nothing."""
        began = perf_counter()
        yield
        self.observe(perf_counter() - began)


def note(cells: Cells, at: int, seconds: float) -> None:
    """Add an observation to a histogram's cells: the buckets, one for all above, and the sum."""
    cells[at + bisect_left(SECONDS, seconds)] += 1
    cells[at + len(SECONDS) + 1] += seconds


class Metrics(BackgroundService):
    """Declares numbers, and adds up what all workers have counted.

    NOTE: each block has two halves. The server's loop alone writes into `loop`, without a lock, so
    that it never waits for a thread. All else writes into `threads`, under the lock.
    """

    def __init__(self, *, collects: bool) -> None:
        """Take whether anything is counted. Until `open`, numbers are this process's alone."""
        self.collects = collects
        self.families: dict[str, Family] = {}
        self.loop: Cells = []
        self.threads: Cells = []
        self._blocks: list[tuple[Cells, Cells]] = []
        self._gauges: list[tuple[int, Read]] = []
        self._watchers: list[Callable[[str, Failure], None]] = []
        super().__init__()

    def begin(self) -> None:
        """Make the lock anew: a thread of the parent may have held it."""
        self.lock = threading.Lock()

    def counter(self, name: str, text: str, **labels: str) -> Counter:
        """Return the counter of a name and the values of its labels."""
        return Counter(self, self._cell("counter", name, text, labels)) if self.collects else OFF

    def histogram(self, name: str, text: str, **labels: str) -> Histogram:
        """Return the histogram of times of a name and the values of its labels."""
        if not self.collects:
            return UNOBSERVED
        return Histogram(self, self.histogram_place(name, text, **labels))

    def histogram_place(self, name: str, text: str, **labels: str) -> int:
        """Return the place of a histogram, for `note`."""
        return self._cell("histogram", name, text, labels, len(SECONDS) + 2)

    def gauge(self, name: str, text: str, read: Read, **labels: str) -> None:
        """Show a number that each worker reads every second, as the sum of all workers."""
        if self.collects:
            self._gauges.append((self._cell("gauge", name, text, labels), read))

    def worker_gauge(self, name: str, text: str, read: Read) -> None:
        """Show a number that each worker reads every second, by the worker."""
        if self.collects:
            self._gauges.append((self._cell("worker", name, text, {}), read))

    def latest(self, name: str, text: str) -> Latest:
        """Return a number that any worker sets, where metrics are on."""
        return Latest(self, self._cell("latest", name, text, {}))

    def shared_gauge(self, name: str, text: str, read: Read, **labels: str) -> None:
        """Show a number that is the same in all workers; none where `read` returns None."""
        if self.collects:
            family = self._family("shared", name, text, tuple(labels))
            family.shared[tuple(labels.values())] = read

    def table(self, name: str, text: str, labels: Labels, rows: Sequence[Labels]) -> int:
        """Return the first place of counters for these rows, in order. Zeros are not shown."""
        family = self._family("counter", name, text, labels)
        family.hides_zero, first = True, len(self.loop)
        family.cells |= {row: first + number for number, row in enumerate(rows)}
        self._extend(len(rows))
        return first

    def watch_failures(self, tell: Callable[[str, Failure], None]) -> None:
        """Call `tell` with each failure that is answered, and the template of its route."""
        if self.collects:
            self._watchers.append(tell)

    def count_failures(self, route: str, counters: Mapping[type[Failure], Counter]) -> None:
        """Count failures of a route, each by the first kind of these that it is of."""

        def count(of: str, failure: Failure) -> None:
            if of == route:
                kind = next((kind for kind in counters if isinstance(failure, kind)), None)
                if kind:
                    counters[kind].add()

        self.watch_failures(count)

    def failed(self, route: str, failure: Failure) -> None:
        """Tell the watchers of a failure."""
        for tell in self._watchers:
            tell(route, failure)

    def open(self, workers: int) -> None:
        """Make the map, before workers are forked. Nothing can be declared afterwards."""
        size, before = len(self.loop), self.threads
        shared: Any = memoryview(mmap.mmap(-1, max(1, 2 * size * (workers + 1)) * DOUBLE)).cast("d")
        for at in range(workers + 1):
            block = shared[2 * at * size : 2 * (at + 1) * size]
            self._blocks.append((block[:size], block[size:]))
        self.use(workers)
        for at, value in enumerate(before):
            self.threads[at] = value

    def use(self, number: int) -> None:
        """Write into a worker's block from now on, in that worker. The last one is the parent's."""
        self.loop, self.threads = self._blocks[number]

    def clear_gauges(self, number: int) -> None:
        """Forget the gauges of a worker that has ended."""
        for at, _ in self._gauges if self._blocks else ():
            self._blocks[number][1][at] = 0

    def wake(self) -> None:
        """Read the gauges of this worker."""
        for at, read in self._gauges:
            self.threads[at] = read() or 0

    def by_worker(self) -> list[list[float]]:
        """Return the cells of each worker, and last those of their parent."""
        blocks = self._blocks or [(self.loop, self.threads)]
        return [list(map(sum, zip(*block, strict=True))) for block in blocks]

    def _cell(self, kind: str, name: str, text: str, labels: dict[str, str], size: int = 1) -> int:
        """Return the place of a number, which may have been declared before."""
        cells, values = self._family(kind, name, text, tuple(labels)).cells, tuple(labels.values())
        if values not in cells:
            cells[values] = len(self.loop)
            self._extend(size)
        return cells[values]

    def _family(self, kind: str, name: str, text: str, labels: Labels) -> Family:
        found = self.families.setdefault(name, Family(name, text, kind, labels))
        if (found.kind, found.labels) != (kind, labels):
            raise ValueError(f"{name} is declared already, as another kind or with other labels")
        return found

    def _extend(self, size: int) -> None:
        if self._blocks:
            raise ValueError("metrics are declared before the server starts")
        self.loop += [0.0] * size
        self.threads += [0.0] * size


OFF, UNOBSERVED = Counter(), Histogram()
