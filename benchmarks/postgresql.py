"""Session checks per second on a PostgreSQL server, compared with SQLite, and the server's CPU."""

from __future__ import annotations

import os
import secrets
import sys
from pathlib import Path

from figures import Figure, Goal, ratios
from harness import Bench, BenchError, Server, check_user, register
from session import CONNECTIONS, per_second

sys.path.append(str(Path(__file__).parents[1]))  # for the fault scripts' server

from faults.cluster import Cluster, running_cluster, why_none

MOST = CONNECTIONS[-1]


def measure(bench: Bench) -> list[Figure]:
    """Measure session checks on both databases in turn, with the default settings."""
    reason = why_none()
    if reason:
        raise BenchError(f"There is no PostgreSQL server: {reason}.")
    with running_cluster(autovacuum="on", shared_buffers="64MB") as cluster:
        keys = {"AUTHAPI_DATABASE_URL": cluster.url, "AUTHAPI_SECRET_KEY": secrets.token_hex(32)}
        with bench.authapi("sqlite") as local, bench.authapi("postgresql", **keys) as remote:
            return compare(bench, cluster, local, remote)


def compare(bench: Bench, cluster: Cluster, local: Server, remote: Server) -> list[Figure]:
    """Return the figures. Servers take turns, and the first one changes from round to round."""
    cookies = {server: register(server) for server in (local, remote)}
    rates: dict[tuple[Server, int], list[float]] = {}
    cpu: list[float] = []
    for turn in range(bench.rounds + 1):  # round 0 is the warm-up
        for count in CONNECTIONS if turn else (MOST,):
            for server in (local, remote) if turn % 2 else (remote, local):
                before = cpu_seconds(cluster)
                rate = per_second(bench, server, count, "-H", f"Cookie: {cookies[server]}")
                if turn:
                    rates.setdefault((server, count), []).append(rate)
                if turn and server is remote and count == MOST:
                    cpu.append((cpu_seconds(cluster) - before) / (rate * bench.seconds) * 1e6)
    check_user(remote, cookies[remote])
    figures = []
    for count in CONNECTIONS:
        at = f"{count} connection{'s'[: count > 1]}"
        ours, others = rates[remote, count], rates[local, count]
        goal = Goal(">=", 0.85) if count == MOST else None
        figures += [
            Figure(f"session checks on PostgreSQL, {at}", ours, "/s"),
            Figure(f"PostgreSQL : SQLite, {at}", ratios(ours, others), goal=goal),
        ]
    goal = Goal("<=", 15)
    return [*figures, Figure(f"the database's CPU for one, {MOST} connections", cpu, "us", goal)]


def cpu_seconds(cluster: Cluster) -> float:
    """Return the CPU time of the server and its processes so far."""
    ticks = 0
    for pid in (cluster.pid, *cluster.children()):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")
