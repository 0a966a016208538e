"""The observer: counts each request that was answered, where the settings ask for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from authapi.app import AuthAPI
from authapi.metrics import Counter, Metrics, note

if TYPE_CHECKING:
    from authapi.server.http_server import Server

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
STATUSES = (
    *("200", "201", "202", "204", "206", "301", "302", "303", "304", "307", "308"),
    *("400", "401", "403", "404", "405", "406", "408", "409", "410", "411", "412", "413", "414"),
    *("415", "416", "422", "428", "429", "431", "500", "501", "502", "503", "504"),
)
OTHER = "other"  # a path without a route, another method or another status


class Observer:
    """Counts requests by route, method and status, and their times by route.

    A route is its template, so that no label holds what a client wrote. It is made before workers
    are forked, because a metric must be declared by then.
    """

    def __init__(self, app: AuthAPI) -> None:
        """Declare the metrics of an application, all routes of which are known."""
        self._app, self._metrics = app, app.core.metrics
        self._routes = [*(path for path, observed in app.observed.items() if observed), OTHER]
        names = [(r, m, s) for r in self._routes for m in (*METHODS, OTHER) for s in _statuses()]
        first = self._metrics.table(
            "authapi_requests_total",
            "Requests that were answered.",
            ("route", "method", "status"),
            names,
        )
        self._statuses = {status: number for number, status in enumerate(_statuses())}
        methods = {method: len(_statuses()) * at for at, method in enumerate((*METHODS, OTHER))}
        of_a_route = len(_statuses()) * len(methods)
        self._places: dict[str, tuple[int, dict[str, int]]] = {}
        for number, route in enumerate(self._routes):
            of_methods = {name: first + number * of_a_route + at for name, at in methods.items()}
            times = self._metrics.histogram_place(
                "authapi_request_duration_seconds",
                "Time from the last byte of a request until its answer is written.",
                route=route,
            )
            self._places[route] = times, of_methods
        self._server: Server | None = None
        self._metrics.gauge(
            "authapi_connections",
            "Connections of clients that are open.",
            lambda: self._server.acceptor.taken if self._server else 0,
        )
        evicted_counter(self._metrics)

    def watch(self, server: Server) -> None:
        """Observe the answers and the connections of a server."""
        self._server, server.observer = server, self

    def __call__(self, task: Any) -> None:  # noqa: ANN401 - one of waitress's
        """Count an answer, in the loop or in a thread."""
        channel = task.channel
        request = channel.requests[0]
        path = request.path
        places = self._places.get(path)
        if places is None:
            if self._app.observed.get(path) is False:
                return
            places = self._places[(path and self._app.route_of(path)) or OTHER]
        seconds = channel.server.clock() - channel.heard
        times, methods = places
        at = methods.get(request.command, methods[OTHER])
        at += self._statuses.get(task.status[:3], self._statuses[OTHER])
        metrics = self._metrics
        if channel.server.is_loop():
            metrics.loop[at] += 1
            note(metrics.loop, times, seconds)
        else:
            with metrics.lock:
                metrics.threads[at] += 1
                note(metrics.threads, times, seconds)


def _statuses() -> tuple[str, ...]:
    return (*STATUSES, OTHER)


def evicted_counter(metrics: Metrics) -> Counter:
    """Return the counter of connections that made room for others."""
    return metrics.counter(
        "authapi_connections_evicted_total",
        "Connections that were closed because slots, memory or disk ran out.",
    )


def observer_of(app: AuthAPI) -> Observer | None:
    """Return what observes an application's answers; None where the settings ask for nothing."""
    return Observer(app) if app.core.metrics.collects else None
