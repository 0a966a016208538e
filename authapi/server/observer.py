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
        self._app, self._logs = app, logs
        self._observed = app.observed
        metrics = app.core.metrics
        routes = [path for path, observed in app.observed.items() if observed]
        self._count = RequestMetrics(metrics, routes).count if metrics.collects else None
        self._server: Server | None = None
        metrics.gauge(
            "authapi_connections",
            "Connections of clients that are open.",
            lambda: self._server.acceptor.taken if self._server else 0,
        )
        evicted_counter(metrics)

    def watch(self, server: Server) -> None:
        """Observe the answers and the connections of a server."""
        self._server, server.observer = server, self

    def __call__(self, task: Any) -> None:  # noqa: ANN401 - one of waitress's
        """Count and log an answer, in the loop or in a thread."""
        channel = task.channel
        request = channel.requests[0]
        route = request.path
        observed = self._observed.get(route)
        if observed is None:
            route = (route and self._app.route_of(route)) or OTHER
        elif not observed:
            return
        seconds = channel.server.clock() - channel.heard
        method, status = request.command, task.status[:3]
        if self._count:
            self._count(route, method, status, seconds, channel.server.is_loop())
        if self._logs:
            _log(task, method if method in METHODS else OTHER, route, seconds)


def _log(task: Any, method: str, route: str, seconds: float) -> None:  # noqa: ANN401
    """Write the line of an answer."""
    environ = getattr(task, "environ", None) or {}
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
