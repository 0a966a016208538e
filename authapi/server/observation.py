"""Observation: what operators see of the processes, where the settings ask for it."""

from __future__ import annotations

import logging
import socket

from authapi.app import AuthAPI
from authapi.hosts import bracketed
from authapi.server.metrics_port import PATH, MetricsPort
from authapi.server.observer import observer_of

logger = logging.getLogger("authapi.serve")


class Observation:
    """The observer of the answers of all workers, and the port at which metrics are read.

    It is made before workers are forked.
    """

    def __init__(self, app: AuthAPI, workers: int, listener: socket.socket | None) -> None:
        """Declare the metrics of processes, and take the socket of scrapers."""
        self._metrics, self._listener = app.core.metrics, listener
        self.observer = observer_of(app)
        if app.core.metrics.collects:
            from authapi.server.process_metrics import declare  # noqa: PLC0415 - it takes 5 ms

            declare(app)
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
