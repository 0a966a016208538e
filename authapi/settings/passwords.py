"""Passwords, what a hash costs, and the processes and threads that answer and hash."""

from __future__ import annotations

import sys
from dataclasses import dataclass

from authapi.machine import available_cpus
from authapi.setting import SettingError, setting
from authapi.settings.sessions import SessionSettings


@dataclass(frozen=True, kw_only=True)
class PasswordSettings(SessionSettings):
    """The policy for passwords, and how many are hashed at once."""

    password_min_length: int = setting(
        8, "The fewest characters of a new password.", low=8, high=64
    )
    own_name_passwords: str = setting(
        "allowed",
        "Whether a password may be the user's own name or the service's, with digits and signs at "
        "its end: allowed or refused.",
        choices=("allowed", "refused"),
    )
    blocked_passwords: str = setting(
        "",
        "A file of further passwords to refuse: words, one in a line, or the sorted SHA-1 digests "
        "of breached passwords. Default: none.",
    )
    argon2_memory_kib: int = setting(
        47_104, "Memory of one password hash, in KiB.", low=8, high=4_194_304, unit="KiB"
    )
    argon2_time_cost: int = setting(1, "Passes of one password hash.", low=1, high=1_000)
    argon2_lanes: int = setting(1, "Lanes of one password hash.", low=1, high=255)
    workers: int = setting(
        1, "Processes that answer requests; auto is one for each CPU.", low=0, high=256
    )
    hash_slots: int = setting(
        0, "Passwords that a worker hashes at once. Default: CPUs by workers.", low=0, high=256
    )
    hash_nice: int = setting(
        19,
        "The nice value of the threads that hash, on Linux: 19 lets everything else run first, 0 "
        "is the priority of the service itself.",
        low=0,
        high=19,
    )
    threads: int = setting(
        0,
        "Threads of each worker that answer requests; at most half of them hash. "
        "Default: 16, or four for each hash slot where that is more.",
        low=0,
        high=1_024,
    )

    def __post_init__(self) -> None:
        """Check the cost, and fill in what follows from the CPUs."""
        super().__post_init__()
        self._check_hashing()

    @property
    def hash_places(self) -> int:
        """How many requests may hash, or wait for a hash slot, at once."""
        return self.threads // 2

    def _check_hashing(self) -> None:
        if self.argon2_memory_kib < 8 * self.argon2_lanes:
            raise SettingError(
                "AUTHAPI_ARGON2_MEMORY_KIB must be at least 8 for each of AUTHAPI_ARGON2_LANES "
                f"(RFC 9106, 3.1): set it to {8 * self.argon2_lanes} or more."
            )
        cpus = available_cpus()
        workers = self.workers or min(cpus, 256)
        if workers > 1 and sys.platform != "linux":
            raise SettingError("AUTHAPI_WORKERS must be 1 but on Linux: no other balances them.")
        most = max(self.threads // 2, 1) if self.threads else 256
        slots = self.hash_slots or min(max(cpus // workers, 1), most)
        threads = self.threads or max(16, 4 * slots)
        if 2 * slots > threads:
            raise SettingError(
                f"AUTHAPI_THREADS must be at least twice AUTHAPI_HASH_SLOTS ({slots}), so that "
                f"session checks always find a thread: set it to {2 * slots} or more."
            )
        self._fill(workers=workers, hash_slots=slots, threads=threads)
