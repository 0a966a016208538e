"""A PostgreSQL server for the measurements, and the CPU time of processes."""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from harness import BenchError, Server

sys.path.append(str(Path(__file__).parents[1]))  # for the fault scripts' server

from faults.cluster import DURABLE, Cluster, running_cluster, why_none

TICKS = os.sysconf("SC_CLK_TCK")  # in a second of CPU time
SETTINGS = {  # PostgreSQL's own defaults
    **DURABLE,
    "full_page_writes": "on",
    "autovacuum": "on",
    "max_connections": "100",
    "shared_buffers": "128MB",
}


@dataclass
class PostgreSQL:
    """A running server, in which each service has a database of its own."""

    cluster: Cluster
    key: str = field(default_factory=lambda: secrets.token_hex(32))
    databases: set[str] = field(default_factory=set)

    def url(self, name: str) -> str:
        """Return the URL of a named database, which is made where it is missing."""
        name = name.replace("-", "_")
        if name not in self.databases:
            self.cluster.create_database(name)
            self.databases.add(name)
        return self.cluster.of(name)

    def variables(self, name: str) -> dict[str, str]:
        """Return the settings with which the service runs on a named database."""
        return {"AUTHAPI_DATABASE_URL": self.url(name), "AUTHAPI_SECRET_KEY": self.key}

    def cpu(self) -> float:
        """Return the seconds of CPU time of all its processes so far, also of ended ones."""
        ended = sum(ticks(self.cluster.pid)[2:])
        return (ended + sum(map(spent, (self.cluster.pid, *self.cluster.children())))) / TICKS

    def describe(self) -> list[tuple[str, ...]]:
        """Return rows of names and values."""
        ((version,),) = self.cluster.query("SELECT version()")
        options = ", ".join(f"{name} {value}" for name, value in SETTINGS.items())
        return [("server", version), ("its settings", f"defaults: {options}; by TCP")]


@contextmanager
def running_server() -> Iterator[PostgreSQL]:
    """Run a server with the settings of a production server. Raises BenchError if there is none."""
    if reason := why_none():
        raise BenchError(f"There is no PostgreSQL server: {reason}.")
    with running_cluster(**SETTINGS) as cluster:
        yield PostgreSQL(cluster)


def ticks(pid: int) -> list[int]:
    """Return a process's time in user and in system mode, and that of its ended children."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return [int(text) for text in fields[11:15]]


def spent(pid: int) -> int:
    """Return the time of a process alone; none of one that has ended."""
    try:
        return sum(ticks(pid)[:2])
    except FileNotFoundError:
        return 0


def cpu_of(server: Server) -> float:
    """Return the seconds of CPU time of a service's processes so far."""
    return sum(map(spent, server.processes())) / TICKS
