"""The observer: counts and logs each request that was answered, where the settings ask for it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from authapi.app import AuthAPI
from authapi.metrics import Counter, Metrics
from authapi.middleware import REQUEST_ID, TRACE_ID
from authapi.server.request_metrics import METHODS, OTHER, RequestMetrics
from authapi.settings import ObservationSettings

if TYPE_CHECKING:
    from authapi.server.http_server import Server

logger = logging.getLogger("authapi.access")


class Observer:
    """Counts and logs answers, each by the template of its route.

    SECURITY: a path and a query may hold what nobody should read. So may the method of a request
    that the parser refused.
    """

    def __init__(self, app: AuthAPI, *, logs: bool) -> None:
        """Declare the metrics of an application, all routes of which are known."""
        self.logs = logs
        self._app, self._metrics = app, app.core.metrics
        routes = [path for path, observed in app.observed.items() if observed]
        self._requests = RequestMetrics(self._metrics, routes) if self._metrics.collects else None
        self._server: Server | None = None
        self._metrics.gauge(
            "authapi_connections",
            "Connections of clients that are open.",
            lambda: self._server.acceptor.taken if self._server else 0,
        )
        evicted_counter(self._metrics)

    def watch(self, server: Server) -> None:
        """Observe the answers and the connections of a server."""
        self._server = server
        if self._requests:
            server.observers.append(self._requests.counting(server.clock, self._route_of))
        if self.logs:
            server.observers.append(self._log)

    def _route_of(self, path: str) -> str:
        """Return the template of a path's route, or `other`; an empty text if it is not observed.

        NOTE: a request that the parser refused has no path.
        """
        observed = self._app.observed.get(path)
        if observed is None:
            return (path and self._app.route_of(path)) or OTHER
        return path if observed else ""

    def _log(self, task: Any) -> None:  # noqa: ANN401 - one of waitress's
        """Log an answer."""
        channel = task.channel
        request = channel.requests[0]
        route = self._route_of(request.path)
        if route:
            method = request.command if request.command in METHODS else OTHER
            _write(task, method, route, channel.server.clock() - channel.heard)


def _write(task: Any, method: str, route: str, seconds: float) -> None:  # noqa: ANN401
    """Write a line of the access log."""
    environ = task.environ or {}
    fields = {
        "method": method,
        "route": route,
        "status": int(task.status[:3]),
        "ms": round(seconds * 1_000, 3),
        "ip": environ.get("REMOTE_ADDR") or task.channel.addr[0],
        "request_id": getattr(task, "request_id", "") or environ.get(REQUEST_ID, ""),
    }
    text = "%s %s %s ms=%s ip=%s request_id=%s"
    if TRACE_ID in environ:
        fields["trace_id"] = environ[TRACE_ID]
        text = "%s %s %s ms=%s ip=%s request_id=%s trace_id=%s"
    logger.info(text, *fields.values(), extra={"fields": fields})


def evicted_counter(metrics: Metrics) -> Counter:
    """Return the counter of connections that made room for others."""
    return metrics.counter(
        "authapi_connections_evicted_total",
        "Connections that were closed because slots, memory or disk ran out.",
    )


def observer_of(app: AuthAPI) -> Observer | None:
    """Return what observes an application's answers; None where the settings ask for nothing."""
    logs = app.core.settings.of(ObservationSettings).access_log == "on"
    if logs:
        logger.setLevel(logging.INFO)  # also where the log begins at warnings
    return Observer(app, logs=logs) if logs or app.core.metrics.collects else None
