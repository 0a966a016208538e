"""Observation: what operators see of the processes, where the settings ask for it."""

from __future__ import annotations

import logging
import os
import platform
import socket
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

import authapi
from authapi.app import AuthAPI
from authapi.hosts import bracketed
from authapi.metrics import Metrics
from authapi.server.metrics_port import PATH, MetricsPort
from authapi.server.observer import observer_of
from authapi.settings import KeySettings

logger = logging.getLogger("authapi.serve")


class Observation:
    """The observer of the answers of all workers, and the port at which metrics are read.

    It is made before workers are forked.
    """

    def __init__(self, app: AuthAPI, workers: int, listener: socket.socket | None) -> None:
        """Declare the metrics of processes, and take the socket of scrapers."""
        self._metrics, self._listener = app.core.metrics, listener
        self.observer = observer_of(app)
        _declare(app)
        self._restarts = self._metrics.counter(
            "authapi_worker_restarts_total", "Workers that ended by themselves."
        )
        if listener is not None:
            from authapi.server.exposition import Exposition  # noqa: PLC0415 - an extra

            self._metrics.open(workers)
            self._render = Exposition(self._metrics).text
            host, port = listener.getsockname()[:2]
            logger.info("metrics are on http://%s:%d%s", bracketed(host), port, PATH)

    def begin(self, number: int) -> None:
        """Count for a worker, in that worker, and answer scrapers there."""
        if self._listener is not None:
            self._metrics.use(number)
            MetricsPort(self._listener, self._render).start()

    def fell(self, number: int) -> None:
        """Note that a worker has ended by itself, in the parent."""
        self._metrics.clear_gauges(number)
        self._restarts.add()


def _declare(app: AuthAPI) -> None:
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
