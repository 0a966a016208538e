"""Session checks with one worker and two, in all and for each CPU second."""

from __future__ import annotations

import os
from pathlib import Path

import session
from figures import Figure, Goal, ratios
from harness import Bench, Server, check_user, register

CONNECTIONS = 32  # enough for an even distribution by the kernel
TICKS = os.sysconf("SC_CLK_TCK")  # per second


def measure(bench: Bench) -> list[Figure]:
    """Measure session checks per second, and per second of the service's CPU time, in turn."""
    rates: dict[str, list[float]] = {"1": [], "2": []}
    costs: dict[str, list[float]] = {"1": [], "2": []}
    with (
        bench.authapi("one") as one,
        bench.authapi("two", AUTHAPI_WORKERS="2") as two,
    ):
        servers = {"1": (one, register(one)), "2": (two, register(two))}
        for turn in range(bench.rounds + 1):
            for name in sorted(servers, reverse=bool(turn % 2)):
                rate, cost = per_second(bench, *servers[name])
                if turn:  # warm-up first
                    rates[name].append(rate)
                    costs[name].append(cost)
    cpus = len(os.sched_getaffinity(0))
    goal = Goal(">=", 1.8) if cpus >= 4 else None  # wrk needs CPUs of its own
    return [
        Figure("session checks, 1 worker", rates["1"], "/s"),
        Figure("session checks, 2 workers", rates["2"], "/s"),
        Figure("2 workers : 1", ratios(rates["2"], rates["1"]), goal=goal),
        Figure("checks for a CPU second, 1 worker", costs["1"], "/s"),
        Figure("checks for a CPU second, 2 workers", costs["2"], "/s"),
        Figure(
            "for a CPU second, 2 workers : 1", ratios(costs["2"], costs["1"]), goal=Goal(">=", 0.9)
        ),
    ]


def per_second(bench: Bench, server: Server, cookie: str) -> tuple[float, float]:
    """Return session checks per second, and per second of the service's CPU time."""
    check_user(server, cookie)
    before = cpu_seconds(server)
    rate = session.per_second(bench, server, CONNECTIONS, "-H", f"Cookie: {cookie}")
    return rate, rate * bench.seconds / (cpu_seconds(server) - before)


def cpu_seconds(server: Server) -> float:
    """Return the CPU time of a server's processes."""
    stats = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2] for pid in server.processes()]
    return sum(int(ticks) for stat in stats for ticks in stat.split()[11:13]) / TICKS
