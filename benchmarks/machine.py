"""What the figures depend on: the processor, the kernel, the versions, the disk."""

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


def describe(bench: Bench) -> list[tuple[str, ...]]:
    """What the figures depend on."""
    settings = bench.settings
    cost = f"m={settings.argon2_memory_kib} t={settings.argon2_time_cost} p={settings.argon2_lanes}"
    cpus = f"{os.cpu_count()} CPUs, {available_cpus()} of them ours"
    return [
        ("CPU", f"{cpu_model()}, {cpus}, load {os.getloadavg()[0]:.1f}"),
        ("kernel", f"{platform.system()} {platform.release()} {platform.machine()}"),
        ("Python", f"{platform.python_version()}, SQLite {sqlite3.sqlite_version}"),
        ("packages", ", ".join(packages())),
        ("wrk", wrk_version()),
        ("database on", file_system(bench.directory)),
        ("service", f"threads {settings.threads}, hash slots {settings.hash_slots}, argon2 {cost}"),
        ("rounds", f"{bench.rounds}, {bench.seconds} s for each measurement"),
    ]


def cpu_model() -> str:
    """The processor's name, where /proc/cpuinfo says it."""
    found = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1] if found else "unknown"


def packages() -> list[str]:
    """The name and version of authapi and of what it requires."""
    required = [text for text in metadata.requires("authapi") or () if "extra ==" not in text]
    names = [re.split(r"[^\w.-]", text)[0] for text in required]
    return [f"{name} {metadata.version(name)}" for name in ["authapi", *names]]


def wrk_version() -> str:
    """The version as wrk says it, which ends with status 1 even so."""
    run = subprocess.run(["wrk", "--version"], capture_output=True, text=True, check=False)
    return run.stdout.split()[1]


def file_system(directory: Path) -> str:
    """The type of a directory's file system; on tmpfs a commit costs nothing."""
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    above = [mount for mount in mounts if directory.is_relative_to(mount[1])]
    return max(above, key=lambda mount: len(mount[1]))[2]
