"""The machine's limits for the service: memory, and open files for connections."""

from __future__ import annotations

import resource
from collections.abc import Callable

from authapi.errors import StartError
from authapi.machine import PROCESS_MIB, memory_limit
from authapi.server.bounds import DEFAULT, MIB
from authapi.settings import DatabaseSettings, PasswordSettings, Settings, WorkerSettings

FEWEST_CONNECTIONS = 16
SPARE_FILES = 32  # descriptors for all but connections and the database
FILES_OF_A_THREAD = 3  # of SQLite: the database, its log and its index


def memory_needed(settings: Settings, limit: Callable[[], int | None] = memory_limit) -> str:
    """Return the most memory that the service takes, in MiB, with its parts.

    Raises StartError where it is over the limit, in bytes; that is the container's by default.
    """
    workers, slots = settings.of(WorkerSettings).workers, settings.of(WorkerSettings).hash_slots
    base, cost = PROCESS_MIB * workers, -(-settings.of(PasswordSettings).argon2_memory_kib // 1_024)
    needed = base + workers * slots * cost
    text = (
        f"{needed} MiB ({base} + {workers} worker{'s'[: workers > 1]} "
        f"x {slots} hash slot{'s'[: slots > 1]} x {cost})"
    )
    most = limit()
    if most and needed > most // MIB:
        raise StartError(
            f"The memory limit of {most // MIB} MiB is less than the {text} that may be needed: "
            "raise it, or lower AUTHAPI_WORKERS, AUTHAPI_HASH_SLOTS or AUTHAPI_ARGON2_MEMORY_KIB."
        )
    return text


def database_connections(settings: Settings) -> int:
    """Return the most connections to a PostgreSQL server, one for session checks in each worker."""
    database, workers = settings.of(DatabaseSettings), settings.of(WorkerSettings).workers
    return workers * (database.database_connections + 1) if database.is_postgresql else 0


def connections(threads: int) -> int:
    """Return how many connections the limit of open files allows, beside so many threads.

    Where the limit is too low for all of them, raise it as far as the system allows.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    count, files = connections_within(soft, hard, threads)
    if files != soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))
    return count


def connections_within(soft: int, hard: int, threads: int) -> tuple[int, int]:
    """Return the connections that a limit of open files allows, and the soft limit that they need.

    RLIM_INFINITY stands for no limit.
    """
    others = FILES_OF_A_THREAD * threads + SPARE_FILES
    needed = DEFAULT.connections + others
    if soft != resource.RLIM_INFINITY and soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    if soft == resource.RLIM_INFINITY:
        return DEFAULT.connections, soft
    return max(min(DEFAULT.connections, soft - others), FEWEST_CONNECTIONS), soft
