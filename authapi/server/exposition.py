"""The exposition: the metrics as text that Prometheus reads. Only this module knows its client."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from itertools import accumulate

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from authapi.metrics import SECONDS, Family, Metrics

KEPT_FOR = 0.05  # seconds that a text answers further scrapes


class Exposition(Collector):
    """Writes the numbers of all workers in a format that a scraper accepts.

    SECURITY: a text is made some times a second at most, so that a flood of scrapes takes little
    CPU time from the thread that answers requests. NOTE: it is kept for less than the time between
    two scrapes, because another worker's may be newer.
    """

    def __init__(self, metrics: Metrics) -> None:
        """Take the metrics."""
        self._metrics = metrics
        self._registry = CollectorRegistry()
        self._registry.register(self)
        self._kept: dict[str, tuple[float, bytes]] = {}  # by media type, with the time

    def text(self, accept: str) -> tuple[str, bytes]:
        """Return the media type and the text, for an `Accept` header."""
        encode, media_type = choose_encoder(accept)
        made_at, text = self._kept.get(media_type, (0.0, b""))
        if not text or time.monotonic() - made_at > KEPT_FOR:
            text = encode(self._registry)
            self._kept[media_type] = time.monotonic(), text
        return media_type, text

    def describe(self) -> Iterable[Metric]:
        """Return nothing: no number is read when the collector is registered."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield each family with its numbers."""
        blocks = self._metrics.by_worker()
        totals = [sum(values) for values in zip(*blocks, strict=True)]
        for family in self._metrics.families.values():
            if family.kind == "histogram":
                yield _histogram(family, totals)
            elif family.kind == "worker":
                yield _by_worker(family, blocks)
            elif family.kind == "latest":
                yield _latest(family, blocks)
            else:
                yield _numbers(family, totals)


def _numbers(family: Family, totals: list[float]) -> Metric:
    kind = CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily
    metric = kind(family.name, family.help, labels=family.labels)
    for labels, at in family.cells.items():
        if totals[at] or not family.hides_zero:
            metric.add_metric(labels, totals[at])
    for labels, read in family.shared.items():
        value = read()
        if value is not None:
            metric.add_metric(labels, value)
    return metric


def _by_worker(family: Family, blocks: list[list[float]]) -> Metric:
    metric = GaugeMetricFamily(family.name, family.help, labels=["worker"])
    (at,) = family.cells.values()
    for number, block in enumerate(blocks):
        if block[at]:  # a worker that has ended has none, and neither has their parent
            metric.add_metric([str(number + 1)], block[at])
    return metric


def _latest(family: Family, blocks: list[list[float]]) -> Metric:
    metric = GaugeMetricFamily(family.name, family.help)
    (at,) = family.cells.values()
    value = max(block[at] for block in blocks)
    if value:
        metric.add_metric([], value)
    return metric


def _histogram(family: Family, totals: list[float]) -> Metric:
    metric = HistogramMetricFamily(family.name, family.help, labels=family.labels)
    bounds = [*map(str, SECONDS), "+Inf"]
    for labels, at in family.cells.items():
        counts = accumulate(totals[at : at + len(bounds)])
        buckets = list(zip(bounds, counts, strict=True))
        metric.add_metric(labels, buckets, totals[at + len(bounds)])
    return metric
