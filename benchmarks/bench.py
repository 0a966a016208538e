"""Measure the service on this machine and compare it with its goals: see README.md.

This needs wrk, and authapi installed. Everything runs on 127.0.0.1 and in a temporary directory.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

import login
import machine
import memory
import postgresql
import postgresql_login
import postgresql_session
import request_path
import scaling
import session
import start
import storm
import storm_mail
from figures import Figure
from harness import Bench, BenchError

from authapi.settings import Settings

Measurement = Callable[[Bench], list[Figure]]

MEASUREMENTS: dict[str, Measurement] = {
    "path": request_path.measure,
    "session": session.measure,
    "workers": scaling.measure,
    "login": login.measure,
    "storm": storm.measure,
    "mail": storm_mail.measure,
    "start": start.measure,
    "memory": memory.measure,
}
NAMES = {"sqlite": tuple(MEASUREMENTS), "postgresql": ("session", "turns", "login", "storm")}


def on_server(server: postgresql.PostgreSQL) -> dict[str, Measurement]:
    """Return the measurements on a PostgreSQL server."""
    return {
        "session": partial(postgresql_session.measure, server=server),
        "turns": partial(postgresql_session.measure_turns, server=server),
        "login": partial(postgresql_login.measure, server=server),
        "storm": partial(storm.measure, kept=0.60),
    }


def show(title: str, rows: list[tuple[str, ...]]) -> None:
    """Print a title and rows in columns."""
    print(f"\n{title}")
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        print(f"  {'  '.join(cells)}".rstrip(), flush=True)


def run(
    bench: Bench, measurements: dict[str, Measurement], server: postgresql.PostgreSQL | None = None
) -> None:
    """Measure, and print everything."""
    show("Machine", [*machine.describe(bench), *(server.describe() if server else ())])
    figures = []
    for name, measure in measurements.items():
        measured = measure(bench)
        show(f"{name.capitalize()}: median, min - max", [figure.row() for figure in measured])
        figures += measured
    show("Commands", [(command,) for command in bench.commands])
    goals = [figure.goal_row(figure.goal) for figure in figures if figure.goal]
    show("Goals", [("", "goal", "median", "min - max", ""), *goals])


def positive(text: str) -> int:
    """Parse a whole number from 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return value


def arguments() -> argparse.Namespace:
    """Parse the command line's options."""
    parser = argparse.ArgumentParser(description="Measure authapi, and compare with its goals.")
    parser.add_argument("--rounds", type=positive, default=5, help="default: 5")
    parser.add_argument(
        "--seconds", type=positive, default=3, help="of each measurement; default: 3"
    )
    parser.add_argument(
        "--database",
        choices=NAMES,
        default="sqlite",
        help="what the service runs on; postgresql needs the extra test; default: sqlite",
    )
    choices = list(dict.fromkeys(name for names in NAMES.values() for name in names))
    parser.add_argument("--only", choices=choices, help="measure just this")
    options = parser.parse_args()
    if options.only and options.only not in NAMES[options.database]:
        names = ", ".join(NAMES[options.database])
        parser.error(f"on {options.database} --only takes {names}")
    return options


def measure(options: argparse.Namespace, bench: Bench) -> None:
    """Run what the options ask for."""
    with ExitStack() as stack:
        server, known = None, MEASUREMENTS
        if options.database == "postgresql":
            server = stack.enter_context(postgresql.running_server())
            bench, known = replace(bench, variables=server.variables), on_server(server)
        names = [options.only] if options.only else NAMES[options.database]
        run(bench, {name: known[name] for name in names}, server)


def main() -> int:
    """Run the benchmark; return its exit status, 1 if a measurement failed."""
    options = arguments()
    if shutil.which("wrk") is None:
        sys.exit("bench.py needs wrk, which is not installed: apt-get install wrk.")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that servers are stopped
    try:
        with tempfile.TemporaryDirectory(prefix="authapi-bench-") as directory:
            bench = Bench(options.rounds, options.seconds, Path(directory), Settings())
            measure(options, bench)
    except BenchError as error:
        print(f"bench.py: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
