"""Memory of the service at rest, and after a load."""

from __future__ import annotations

import shutil

import login
import session
from figures import Figure, Goal
from harness import Bench, register


def measure(bench: Bench) -> list[Figure]:
    """Measure memory after one answer, and after a registration, session checks and logins."""
    rest, loaded, highest = [], [], []
    for _ in range(bench.rounds):
        with bench.authapi("memory"):
            pass  # makes a database, as for every start but the first
        with bench.authapi("memory") as server:
            rest.append(server.memory())
            cookie = register(server)
            session.per_second(bench, server, session.CONNECTIONS[-1], "-H", f"Cookie: {cookie}")
            login.per_second(bench, server)
            loaded.append(server.memory())
            highest.append(server.memory("VmHWM"))
        shutil.rmtree(bench.directory / "memory")
    return [
        Figure("resident memory at rest", rest, "MiB", Goal("<=", 45)),
        Figure("resident memory after load", loaded, "MiB"),
        Figure("highest resident memory under load", highest, "MiB"),
    ]
