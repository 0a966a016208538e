"""Seconds from a start to the first answer."""

from __future__ import annotations

import shutil

from figures import Figure, Goal
from harness import Bench


def measure(bench: Bench) -> list[Figure]:
    """Seconds from start to first answer, on an empty directory and then on its database."""
    empty: list[float] = []
    existing: list[float] = []
    for _ in range(bench.rounds):
        for times in (empty, existing):
            with bench.authapi("start") as server:
                times.append(server.started_in)
        shutil.rmtree(bench.directory / "start")
    return [
        Figure("start to first answer, existing database", existing, "s", Goal("<=", 0.6)),
        Figure("start to first answer, empty directory", empty, "s", Goal("<=", 0.6)),
    ]
