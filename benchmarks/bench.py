"""Measure the service on this machine and compare it with its goals: see README.md.

This needs wrk, and authapi installed. Everything runs on 127.0.0.1 and in a temporary directory.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
from pathlib import Path

import login
import machine
import memory
import postgresql
import request_path
import scaling
import session
import start
import storm
from harness import Bench, BenchError

from authapi.settings import Settings

MEASUREMENTS = {
    "path": request_path.measure,
    "session": session.measure,
    "workers": scaling.measure,
    "login": login.measure,
    "storm": storm.measure,
    "start": start.measure,
    "memory": memory.measure,
    "postgresql": postgresql.measure,
}
UNASKED = [name for name in MEASUREMENTS if name != "postgresql"]  # which needs a server


def show(title: str, rows: list[tuple[str, ...]]) -> None:
    """Print a title and rows in columns."""
    print(f"\n{title}")
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        print(f"  {'  '.join(cells)}".rstrip(), flush=True)


def run(bench: Bench, names: list[str]) -> None:
    """Measure, and print everything."""
    show("Machine", machine.describe(bench))
    figures = []
    for name in names:
        measured = MEASUREMENTS[name](bench)
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
    parser.add_argument("--only", choices=MEASUREMENTS, help="measure just this")
    return parser.parse_args()


def main() -> int:
    """Run the benchmark; return its exit status, 1 if a measurement failed."""
    options = arguments()
    if shutil.which("wrk") is None:
        sys.exit("bench.py needs wrk, which is not installed: apt-get install wrk.")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that servers are stopped
    names = [options.only] if options.only else UNASKED
    try:
        with tempfile.TemporaryDirectory(prefix="authapi-bench-") as directory:
            run(Bench(options.rounds, options.seconds, Path(directory), Settings()), names)
    except BenchError as error:
        print(f"bench.py: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
