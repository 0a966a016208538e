"""The metrics of requests: how many by route, method and status, and their times by route."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable
from typing import Any

from authapi.inline import IN_LOOP
from authapi.metrics import SECONDS, Metrics, note

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
OTHER = "other"  # a path without a route, another method or another status
STATUSES = (
    *("200", "201", "202", "204", "206", "301", "302", "303", "304", "307", "308"),
    *("400", "401", "403", "404", "405", "406", "408", "409", "410", "411", "412", "413", "414"),
    *("415", "416", "422", "428", "429", "431", "500", "501", "502", "503", "504", OTHER),
)

Observe = Callable[[Any], None]

_UNKNOWN = len(STATUSES) - 1
_SUM = len(SECONDS) + 1  # the place of the sum in a histogram


class RequestMetrics:
    """Counts requests in a table that has a place for all labels, made before a fork."""

    def __init__(self, metrics: Metrics, routes: Iterable[str]) -> None:
        """Declare the metrics of these routes."""
        self._metrics = metrics
        routes, methods = [*routes, OTHER], (*METHODS, OTHER)
        first = metrics.table(
            "authapi_requests_total",
            "Requests that were answered.",
            ("route", "method", "status"),
            [
                (route, method, status)
                for route in routes
                for method in methods
                for status in STATUSES
            ],
        )
        self._statuses = {status: number for number, status in enumerate(STATUSES)}
        self._places: dict[str, tuple[int, dict[str, int]]] = {}
        for route in routes:
            times = metrics.histogram_place(
                "authapi_request_duration_seconds",
                "Time from the last byte of a request until its answer is written.",
                route=route,
            )
            places = {method: first + len(STATUSES) * at for at, method in enumerate(methods)}
            self._places[route] = times, places
            first += len(STATUSES) * len(methods)

    def counting(self, clock: Callable[[], float], row_of: Callable[[str], str]) -> Observe:
        """Return a function that counts an answer, by a task of waitress's.

        `clock` is the server's. `row_of` returns the route of a path that is no route itself, or an
        empty text for one that does not count.

        NOTE: it is one function with local names, because a session check takes tens of
        microseconds, and each further call would take a hundredth of it. In the loop, which alone
        writes there, it takes no lock.
        """
        places_of, statuses, metrics = self._places, self._statuses, self._metrics

        def count(task: Any) -> None:  # noqa: ANN401 - one of waitress's
            channel = task.channel
            request = channel.requests[0]
            found = places_of.get(request.path)
            if found is None:
                route = row_of(request.path)
                if not route:
                    return
                found = places_of[route]
            times, places = found
            method, status = request.command, statuses.get(task.status[:3], _UNKNOWN)
            at = (places[method] if method in places else places[OTHER]) + status
            seconds = clock() - channel.heard
            if task.environ[IN_LOOP] if task.environ else channel.server.is_loop():
                cells = metrics.loop
                cells[at] += 1
                cells[times + bisect_left(SECONDS, seconds)] += 1
                cells[times + _SUM] += seconds
            else:
                with metrics.lock:
                    metrics.threads[at] += 1
                    note(metrics.threads, times, seconds)

        return count
