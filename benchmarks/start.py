"""Seconds from a start to the first answer, and CPU seconds of a command without a service."""

from __future__ import annotations

import resource
import shutil
import subprocess
import sys

from figures import Figure, Goal
from harness import Bench


def measure(bench: Bench) -> list[Figure]:
    """Measure a start in an empty directory and on an existing database, and `--help`."""
    empty: list[float] = []
    existing: list[float] = []
    for _ in range(bench.rounds):
        for times in (empty, existing):
            with bench.authapi("start") as server:
                times.append(server.started_in)
        shutil.rmtree(bench.directory / "start")
    helped = [_help_cpu() for _ in range(bench.rounds)]
    return [
        Figure("start to first answer, existing database", existing, "s", Goal("<=", 0.25)),
        Figure("start to first answer, empty directory", empty, "s", Goal("<=", 0.25)),
        Figure("CPU time of `authapi --help`", helped, "s", Goal("<=", 0.1)),
    ]


def _help_cpu() -> float:
    before = _children_cpu()
    subprocess.run(
        [sys.executable, "-m", "authapi", "--help"], stdout=subprocess.DEVNULL, check=True
    )
    return _children_cpu() - before


def _children_cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
