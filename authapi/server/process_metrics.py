"""Metrics of the processes, their versions and their keys. A server without metrics loads none."""

from __future__ import annotations

import os
import platform
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

import authapi
from authapi.app import AuthAPI
from authapi.metrics import Metrics
from authapi.settings import KeySettings


def declare(app: AuthAPI) -> None:
    """Declare what is to be known of processes, and of what they run."""
    metrics = app.core.metrics
    metrics.gauge("authapi_workers", "Processes that answer requests.", lambda: 1)
    metrics.worker_gauge(
        "authapi_process_resident_memory_bytes", "Memory that a worker has in use.", _resident
    )
    metrics.shared_gauge(
        "authapi_build_info",
        "The versions of what runs; the value is 1.",
        lambda: 1,
        version=authapi.__version__,
        python=platform.python_version(),
        falcon=version("falcon"),
        database=app.core.database.description.rpartition(", ")[2],
    )
    _declare_age_of_keys(app, metrics)


def _declare_age_of_keys(app: AuthAPI, metrics: Metrics) -> None:
    keys, clock = app.core.settings.of(KeySettings), app.core.clock

    def age() -> float | None:
        try:
            return max(0, clock() - os.stat(keys.key_file).st_mtime)  # noqa: PTH116 - a text
        except OSError:
            return None

    if keys.has_key_file:
        text = "Time since the key file was changed, as by a rotation."
        metrics.shared_gauge("authapi_key_age_seconds", text, age)


def _resident() -> float | None:
    """Return the bytes of memory that this process has in use, where the system tells."""
    with suppress(OSError, ValueError):
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")
    return None
