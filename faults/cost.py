"""Requests that cost more than they weigh: can a few of them stop everybody?

`python -m faults.cost` puts texts into every place of a request: each header field, each part of a
token, each field of a body, each element of the framing. The texts are repeated, numbered, nested
and grown to the limits, and then put together by Hypothesis, which goes on where the cost is
highest. It measures the CPU time of the service's process for each. Printed: the dearest text of
each place. Broken: a request above MOST seconds, or above the cost of its place without a text by
MOST_A_KIB for each KiB on the wire; an answer of more than MOST_ANSWERED bytes; more than
MOST_LOGGED bytes of log; a status of 500 and above, but 501 and 503.

Passwords are hashed at the least cost there is. Seconds are those of a machine on which a piece of
work that is always the same takes 0.1 seconds, so that the limits mean the same on every machine.
The database is in memory, because what a commit takes differs from one to the next.
"""

from __future__ import annotations

import re
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Protocol

from hypothesis import HealthCheck, Phase, given, seed, settings, target
from hypothesis import strategies as st

from faults import texts
from faults.harness import RUN, conclude, parser, start
from faults.meter import Cost, Meter
from faults.requests import ALLOWED, HTTPS, PLACES, SLOW_PLACES, Place, Request, Visitor
from faults.texts import Text, repeated

MOST = 0.01  # seconds of CPU for a request
MOST_A_KIB = 0.000_5  # seconds of CPU for each KiB
MOST_ANSWERED = 65_536  # bytes
MOST_LOGGED = 1_024  # bytes
SUSPECT = 0.7  # the share of the most at which a request is measured again
QUICK, SURE = 3, 10  # times that a request is sent to see whether it may be dear, and to be sure
FEWEST, MOST_ROUNDS = 3, 12  # of the latter: the cheapest counts
CLEAR = 3  # the share of the most above which no more rounds are needed
LONGEST_SHOWN = 90  # characters of a text

MEMORY = "/dev/shm"  # files in it are kept in memory
SPOILT = (sys.executable, "-m", "faults.spoilt", "cookies")
MANY = "999999/second"
SETTINGS = {
    "AUTHAPI_ALLOWED_ORIGINS": ALLOWED,
    "AUTHAPI_LOGIN_ACCOUNT_LIMIT": MANY,
    "AUTHAPI_LOGIN_LOCKOUT": "1000000",
    "AUTHAPI_LOGIN_NETWORK_LIMIT": MANY,
    "AUTHAPI_MAX_SESSIONS": "100",
    "AUTHAPI_PASSWORD_LIMIT": MANY,
    "AUTHAPI_PUBLIC_URL": HTTPS,
    "AUTHAPI_RATE_LIMITS": "on",
    "AUTHAPI_REGISTRATION_LIMIT": MANY,
    "AUTHAPI_TRUSTED_PROXY": "127.0.0.1",
}


class Measures(Protocol):
    """What tells the cost of a request."""

    def measure(self, build: Callable[[Visitor], Request], times: int, *, settles: bool) -> Cost:
        """The cost of one of `times` requests."""


@dataclass(frozen=True)
class Found:
    """What a text in a place costs; `base` is the seconds of the same request without it."""

    place: Place
    text: Text
    size: int
    cost: Cost
    base: float

    @property
    def a_kib(self) -> float:
        """Seconds of CPU for a KiB, above the base; of less than one KiB, for all of it."""
        return (self.cost.seconds - self.base) / max(1, self.size / 1_024)

    @property
    def share(self) -> float:
        """How much of the most it is that a request may cost: above 1 it is broken."""
        return max(self.cost.seconds / MOST, self.a_kib / MOST_A_KIB)

    def faults(self) -> Iterator[tuple[str, str]]:
        """What is wrong with it, by kind."""
        if self.share > 1:
            yield "cost", f"{self.cost.seconds * 1e3:.1f} ms, {self.a_kib * 1e3:.2f} ms a KiB"
        if self.cost.answered > MOST_ANSWERED:
            yield "answer", f"an answer of {self.cost.answered:,} bytes"
        if self.cost.logged > MOST_LOGGED:
            yield "log", f"{self.cost.logged:,} bytes of log"
        if self.cost.status >= 500 and self.cost.status not in {501, 503}:
            yield "status", f"status {self.cost.status}"

    def __str__(self) -> str:
        """It in one line."""
        shown = self.text.shown
        shown = shown if len(shown) <= LONGEST_SHOWN else f"{shown[:LONGEST_SHOWN]}..."
        return (
            f"{self.share:6.2f} {self.place.name}: {self.size:,} bytes, "
            f"{self.cost.seconds * 1e3:.2f} ms ({self.base * 1e3:.2f} without the text), "
            f"{self.a_kib * 1e3:.3f} ms a KiB, {self.cost.status}, {shown}"
        )


@dataclass
class Search:
    """Measures texts in places, and keeps the dearest of each place and what is broken."""

    meter: Measures
    bases: dict[str, float] = field(default_factory=dict)
    dearest: dict[str, Found] = field(default_factory=dict)
    broken: dict[tuple[str, str], tuple[Found, str]] = field(default_factory=dict)
    tried: int = 0

    def look_at(self, place: Place, text: Text, quick: int = QUICK) -> Found:
        """Measure a text in a place, and once more, with care, where it seems to be dear."""
        self.tried += 1
        if place.name not in self.bases:
            self.bases[place.name] = self._measure(place, Text("", place.base), quick).cost.seconds
        found = self._measure(place, text, quick)
        if found.share > SUSPECT:
            found = self._make_sure(place, text)
        self._keep(found)
        return found

    def _make_sure(self, place: Place, text: Text) -> Found:
        """Measure the text and the place without it in turn; the cheapest of each counts."""
        dearer = self._measure(place, text, SURE)
        for rounds in range(2, MOST_ROUNDS):
            if dearer.share < 1 or (rounds > FEWEST and dearer.share > CLEAR):
                break
            base = self._measure(place, Text("", place.base), SURE).cost.seconds
            self.bases[place.name] = min(base, self.bases[place.name])
            again = self._measure(place, text, 1 if dearer.cost.seconds > MOST else SURE)
            dearer = min(dearer, again, key=lambda one: one.share)
        return dearer

    def _measure(self, place: Place, text: Text, times: int) -> Found:
        build = partial(place.build, text.data)
        example = build(Visitor(b"12345678", b"a.b.c", b"a.b.c"))
        cost = self.meter.measure(build, times, settles=times == SURE)
        size = example.size // max(1, example.answers)
        return Found(place, text, size, cost, self.bases.get(place.name, cost.seconds))

    def _keep(self, found: Found) -> None:
        known = self.dearest.get(found.place.name)
        if known is None or found.share > known.share:
            self.dearest[found.place.name] = found
        for kind, fault in found.faults():
            dearest = self.broken.get((found.place.name, kind))
            if dearest is None or found.share > dearest[0].share:
                self.broken[found.place.name, kind] = found, fault

    def verdict(self) -> list[str]:
        """What is broken, the dearest first."""
        broken = sorted(self.broken.values(), key=lambda pair: -pair[0].share)
        return [f"{fault}: {str(found).lstrip()}" for found, fault in broken]


def systematically(search: Search, places: Iterable[Place], say: Callable[[str], None]) -> None:
    """Try each text at each place, at each size; say which was the dearest there."""
    for place in places:
        for size in place.sizes:
            for text in texts.texts(place, size):
                search.look_at(place, text)
        say(str(search.dearest[place.name]))


def slowly(search: Search, places: Iterable[Place], say: Callable[[str], None]) -> None:
    """Try one text at each place that takes its time."""
    for place in places:
        for size in place.sizes:
            search.look_at(place, repeated(b"a", size), quick=1)
        say(str(search.dearest[place.name]))


def at_random(search: Search, places: Sequence[Place], rounds: int, number: int) -> None:
    """Have Hypothesis put texts together, and go on where they are dear."""
    drawn = st.sampled_from(places).flatmap(
        lambda place: st.tuples(st.just(place), texts.strategy(place))
    )

    @seed(number)
    @settings(
        max_examples=rounds,
        phases=[Phase.generate, Phase.target],
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(drawn)
    def attempt(choice: tuple[Place, Text]) -> None:
        place, text = choice
        target(search.look_at(place, text).share, label=place.name)

    attempt()


@contextmanager
def measuring(folder: Path, command: Sequence[str] = RUN, **environ: str) -> Iterator[Meter]:
    """A meter of a service that runs in a folder."""
    service = start(folder, command, **{**SETTINGS, **environ})
    try:
        with closing(Meter(service, folder)) as meter:
            yield meter
    finally:
        service.stop()


def main() -> int:
    """Search, and tell what was found."""
    options = parser(__doc__ or "", 3_000, "texts that Hypothesis puts together")
    options.add_argument("--places", default="", help="a pattern of their names (all)")
    options.add_argument("--checkout", type=Path, help="of the service, where it is another one")
    options.add_argument("--spoilt", action="store_true", help="with a slow reader of cookies")
    chosen = options.parse_args()
    places, slow = (
        [place for place in some if re.search(chosen.places, place.name)]
        for some in (PLACES, SLOW_PLACES)
    )
    command, environ = SPOILT if chosen.spoilt else RUN, {}
    if chosen.checkout:
        root = chosen.checkout.resolve()
        command, environ = (sys.executable, str(root / "run.py")), {"PYTHONPATH": str(root)}
    with (
        tempfile.TemporaryDirectory(dir=MEMORY) as directory,
        measuring(Path(directory), command, **environ) as meter,
    ):
        search = Search(meter)
        slowly(search, slow, partial(print, flush=True))
        systematically(search, places, partial(print, flush=True))
        if places:
            at_random(search, places, chosen.rounds, chosen.seed)
    broken = search.verdict()
    print(f"{search.tried:,} texts at {len(places) + len(slow)} places, {len(broken)} too dear")
    return conclude(broken)


if __name__ == "__main__":
    sys.exit(main())
