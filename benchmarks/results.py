"""The figures of the comparison by contestant, and RESULTS.md."""

from __future__ import annotations

import math
import re
import shutil
import statistics
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import chart
from contestants import Contestant, Installed
from figures import Figure, Goal, ratios
from harness import Bench
from peers import Cost

OWN = Cost(47_104, 1, 1)  # authapi's default, from OWASP's list
STRONG = Cost(65_536, 3, 4)  # argon2-cffi's default, from RFC 9106
COSTS = (OWN, STRONG)
TIMES_AS_MANY_CHECKS = {"tutorial": 5, "fastapi_users": 5, "better_auth": 3}
NONE = "-"

HEAD = """\
# Results

Written by `python benchmarks/compare.py`. [README.md](README.md) explains each figure, and how the
work of the services differs. Each cell is the median of the rounds, with the lowest and the
highest. [POSTGRESQL.md](POSTGRESQL.md) has those on PostgreSQL.

![The medians as bars](results.svg)
"""


@dataclass
class Results:
    """One value for each round, by figure and contestant, and the machine's description."""

    contestants: list[Contestant]
    machine: list[tuple[str, ...]]
    values: dict[str, dict[str, list[float]]] = field(default_factory=dict)

    def add(self, figure: str, one: Contestant, value: float) -> None:
        """Add one round's value."""
        self.values.setdefault(figure, {}).setdefault(one.name, []).append(value)

    def of(self, figure: str, name: str) -> list[float]:
        """Return a contestant's values; none if it was not measured."""
        return self.values.get(figure, {}).get(name, [])

    def median(self, figure: str, name: str) -> float:
        """Return the median; NaN without values."""
        known = [value for value in self.of(figure, name) if not math.isnan(value)]
        return statistics.median(known) if known else math.nan

    def rivals(self, figure: str) -> list[str]:
        """Return the peers that were measured."""
        peers = [one.name for one in self.contestants if isinstance(one, Installed)]
        return [name for name in peers if self.of(figure, name)]

    def title(self, name: str) -> str:
        """Return the display name of a contestant."""
        return next(one.title for one in self.contestants if one.name == name)


@dataclass(frozen=True)
class Column:
    """A figure as a column, with a number of digits after the point."""

    title: str
    figure: str
    digits: int = 0

    def cell(self, found: Results, name: str) -> str:
        """Return the median and the range."""
        values = [value for value in found.of(self.figure, name) if not math.isnan(value)]
        if not values:
            return NONE
        low, high = min(values), max(values)
        middle, low_text, high_text = (
            f"{value:,.{self.digits}f}" for value in (statistics.median(values), low, high)
        )
        return f"**{middle}** ({low_text} - {high_text})"


TABLES = (
    (
        "Session checks",
        ("Answers per second over 8 kept-alive connections for each process; p99 in ms."),
        (
            Column("1 process", "checks"),
            Column("its p99", "checks p99", 1),
            Column("2 processes", "checks of 2"),
        ),
    ),
    (
        "Logins",
        "Per second, 4 connections, one process, at equal argon2id parameters.",
        tuple(Column(str(cost), f"logins {cost}", 1) for cost in COSTS),
    ),
    (
        "A storm of logins: the session checks",
        (
            f"Each service gets five times the logins that it can do at {OWN}, at a fixed rate, "
            "while 8 connections check sessions; p99 in ms. Errors are checks that were refused, "
            "broken or not answered within 2 seconds."
        ),
        (
            Column("of the calm rate, %", "storm kept"),
            Column("p99 calm", "storm calm p99", 1),
            Column("p99 in the storm", "storm p99", 1),
            Column("errors", "storm bad"),
        ),
    ),
    (
        "A storm of logins: the logins",
        (
            "Shed logins got 503 at once. Unanswered logins had no other answer one second after "
            "the storm. The time of successful logins, in s, counts from when each was due."
        ),
        (
            Column("offered, /s", "storm offered", 1),
            Column("succeeded, %", "storm logins done"),
            Column("shed, %", "storm logins shed"),
            Column("unanswered, %", "storm logins unanswered"),
            Column("time", "storm login time", 2),
        ),
    ),
    (
        "Start and memory",
        (
            "Seconds from the start to the first answer, on an existing database. MiB at rest one "
            "second later: the proportional set sizes (PSS) of all processes."
        ),
        (
            Column("start", "start", 2),
            Column("memory, 1 process", "memory", 1),
            Column("memory, 2 processes", "memory of 2", 1),
        ),
    ),
)


def table(found: Results, columns: tuple[Column, ...]) -> list[str]:
    """Return rows of Markdown for contestants with at least one of the figures."""
    lines = ["| | " + " | ".join(column.title for column in columns) + " |"]
    lines.append("|---|" + "---:|" * len(columns))
    for one in found.contestants:
        cells = [column.cell(found, one.name) for column in columns]
        if any(cell != NONE for cell in cells):
            lines.append(f"| {one.title} | " + " | ".join(cells) + " |")
    return lines


def goals(found: Results) -> Iterator[Figure]:
    """Yield the goals, each a ratio within a round."""
    ours = found.of("checks", "authapi")
    for name, times in TIMES_AS_MANY_CHECKS.items():
        if theirs := found.of("checks", name):
            goal = Goal(">=", times)
            yield Figure(f"session checks : {found.title(name)}", ratios(ours, theirs), goal=goal)
    for cost in COSTS:
        yield from login_goals(found, cost)
    if rivals := found.rivals("memory"):
        leanest = min(rivals, key=lambda name: found.median("memory", name))
        values = ratios(found.of("memory", "authapi"), found.of("memory", leanest))
        name = f"memory at rest : the leanest peer ({found.title(leanest)})"
        yield Figure(name, values, goal=Goal("<=", 1))


def login_goals(found: Results, cost: Cost) -> Iterator[Figure]:
    """Yield logins of each of our builds compared with the best peer's."""
    figure = f"logins {cost}"
    if rivals := found.rivals(figure):
        best = max(rivals, key=lambda name: found.median(figure, name))
        for build in ("authapi", "authapi_avx2"):
            if ours := found.of(figure, build):
                title = f"logins of {found.title(build)}, {cost} : {found.title(best)}"
                yield Figure(title, ratios(ours, found.of(figure, best)), goal=Goal(">=", 1))


def goal_table(found: Results) -> list[str]:
    """Return the goals as Markdown."""
    lines = ["| | goal | median | lowest and highest | |", "|---|---:|---:|---:|---|"]
    rows = [figure.goal_row(figure.goal) for figure in goals(found) if figure.goal]
    return [*lines, *(f"| {' | '.join(row)} |" for row in rows)]


def versions(found: Results) -> Iterator[tuple[str, str]]:
    """Yield the main packages of each peer's lock file."""
    for one in found.contestants:
        if isinstance(one, Installed):
            yield one.title, one.peer.versions()
    if shutil.which("node"):
        run = subprocess.run(["node", "--version"], capture_output=True, text=True, check=False)
        yield "Node", run.stdout.strip()


def commands(bench: Bench, home: Path) -> list[str]:
    """Return what was run, each command once, with names for what differs between runs."""
    text = "\n".join(re.sub(r"\s+", " ", command) for command in bench.commands)
    for pattern, name in (
        (re.escape(str(home)), "HOME"),
        (r"((?:AUTHAPI_)?ARGON2)_MEMORY_KIB=\d+ \S+_TIME_COST=\d+ \S+_LANES=\d+", r"\1_…=COST"),
        (r"-\d+(/|\.db)", r"-COST\1"),
        (r"(WORKERS=|--workers )\d+", r"\1N"),
    ):
        text = re.sub(pattern, name, text)
    return ["```", *dict.fromkeys(text.splitlines()), "```"]


def write(out: Path, bench: Bench, found: Results, home: Path, absent: list[str]) -> None:
    """Write RESULTS.md and results.svg into a directory."""
    described = [*found.machine, *versions(found)]
    lines = [HEAD, "## Goals", "", *goal_table(found)]
    for title, text, columns in TABLES:
        lines += ["", f"## {title}", "", text, "", *table(found, columns)]
    lines += ["", "## Machine", "", "| | |", "|---|---|"]
    lines += [f"| {name} | {text} |" for name, text in described]
    for reason in absent:
        lines += ["", f"Left out: {reason}"]
    lines += ["", "## Commands", "", *commands(bench, home)]
    (out / "RESULTS.md").write_text("\n".join(lines) + "\n")
    (out / "results.svg").write_text(chart.draw(panels(found)))


def panels(found: Results) -> list[chart.Panel]:
    """Return the panels of the chart."""
    shown = (
        ("Session checks per second, one process", "checks", 0),
        ("Session checks in a storm of logins, % of the calm rate", "storm kept", 0),
        *((f"Logins per second, argon2id {cost}", f"logins {cost}", 1) for cost in COSTS),
        ("Memory at rest, MiB, one process: less is better", "memory", 0),
        ("Start to first answer, seconds: less is better", "start", 2),
    )
    return [panel(found, *one) for one in shown]


def panel(found: Results, title: str, figure: str, digits: int) -> chart.Panel:
    """Return the medians of one figure."""
    bars = [
        chart.Bar(one.title, found.median(figure, one.name), ours=one.name.startswith("authapi"))
        for one in found.contestants
        if found.of(figure, one.name)
    ]
    return chart.Panel(title, bars, digits)
