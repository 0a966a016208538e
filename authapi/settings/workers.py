"""The processes and threads that answer requests and hash passwords."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

from authapi.machine import available_cpus
from authapi.settings.group import SettingError, SettingsGroup, setting

if TYPE_CHECKING:
    from authapi.settings import Settings


@dataclass(frozen=True, kw_only=True)
class WorkerSettings(SettingsGroup):
    """The processes that answer requests, and their threads."""

    workers: int = setting(
        1,
        "Processes that answer requests; auto is one for each CPU.",
        low=0,
        high=256,
        word="auto",
    )
    hash_slots: int = setting(
        0,
        "Passwords that a worker hashes at once. Default: the available CPUs divided by the "
        "workers.",
        low=0,
        high=256,
    )
    hash_nice: int = setting(
        19,
        "The nice value of the hashing threads, on Linux: 19 gives everything else priority, 0 "
        "is the service's own priority.",
        low=0,
        high=19,
    )
    threads: int = setting(
        0,
        "Threads of each worker that answer requests; at most half of them hash. Default: 16, "
        "or four for each hash slot if that is more.",
        low=0,
        high=1_024,
    )

    def completed(self, settings: Settings) -> Self:
        """Return the group with what follows from this machine filled in. Raises SettingError."""
        del settings
        return self.on_machine(available_cpus(), sys.platform)

    def on_machine(self, cpus: int, platform: str) -> Self:
        """Return the group for a machine with so many CPUs and a `sys.platform`, as `completed`."""
        workers = self.workers or min(cpus, 256)
        if workers > 1 and platform != "linux":
            raise SettingError(
                "AUTHAPI_WORKERS must be 1 on this system: only Linux balances workers."
            )
        most = max(self.threads // 2, 1) if self.threads else 256
        slots = self.hash_slots or min(max(cpus // workers, 1), most)
        threads = self.threads or max(16, 4 * slots)
        if 2 * slots > threads:
            raise SettingError(
                f"AUTHAPI_THREADS must be at least twice AUTHAPI_HASH_SLOTS ({slots}), so that "
                f"session checks always find a thread: set it to {2 * slots} or more."
            )
        return replace(self, workers=workers, hash_slots=slots, threads=threads)

    @property
    def hash_places(self) -> int:
        """Return how many requests may hash, or wait for a hash slot, at once."""
        return self.threads // 2
