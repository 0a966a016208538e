"""The processor, kernel, versions and disk that the figures depend on."""

from __future__ import annotations

import os
import platform
import re
import sqlite3
import subprocess
from importlib import metadata
from pathlib import Path

from harness import Bench

from authapi.machine import available_cpus
from authapi.settings import PasswordSettings, WorkerSettings


def describe(bench: Bench) -> list[tuple[str, ...]]:
    """Return rows of names and values."""
    hashing, workers = bench.settings.of(PasswordSettings), bench.settings.of(WorkerSettings)
    cost = f"m={hashing.argon2_memory_kib} t={hashing.argon2_time_cost} p={hashing.argon2_lanes}"
    cpus = f"{os.cpu_count()} CPUs, {available_cpus()} of them ours"
    return [
        ("CPU", f"{cpu_model()}, {cpus}, load {os.getloadavg()[0]:.1f}"),
        ("kernel", f"{platform.system()} {platform.release()} {platform.machine()}"),
        ("Python", f"{platform.python_version()}, SQLite {sqlite3.sqlite_version}"),
        ("packages", ", ".join(packages())),
        ("wrk", wrk_version()),
        ("database on", file_system(bench.directory)),
        ("service", f"threads {workers.threads}, hash slots {workers.hash_slots}, argon2 {cost}"),
        ("rounds", f"{bench.rounds}, {bench.seconds} s for each measurement"),
    ]


def cpu_model() -> str:
    """Return the processor's name, if /proc/cpuinfo has it."""
    found = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1] if found else "unknown"


def packages() -> list[str]:
    """Return the names and versions of authapi and its requirements."""
    required = [
        text for text in metadata.requires("authapi-server") or () if "extra ==" not in text
    ]
    names = [re.split(r"[^\w.-]", text)[0] for text in required]
    return [f"{name} {metadata.version(name)}" for name in ["authapi-server", *names]]


def wrk_version() -> str:
    """Return the version that wrk prints, although it exits with status 1."""
    run = subprocess.run(["wrk", "--version"], capture_output=True, text=True, check=False)
    return run.stdout.split()[1]


def file_system(directory: Path) -> str:
    """Return the type of a directory's file system; on tmpfs a commit costs nothing."""
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    above = [mount for mount in mounts if directory.is_relative_to(mount[1])]
    return max(above, key=lambda mount: len(mount[1]))[2]
