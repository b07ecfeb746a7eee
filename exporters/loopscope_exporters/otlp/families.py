"""Families: points of the catalogued metrics into OTLP's messages, with what was delivered before for the deltas.

https://opentelemetry.io/docs/specs/otel/metrics/data-model/
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from functools import reduce
from typing import Any

from loopscope.catalog import Metric, metric

from ..points import Histogram, Labels, Point
from ..series import OTHER_OPTIMIZERS
from .distributions import DURATION, new_distribution
from .exemplars import ANOMALIES
from .exemplars import Key as SeriesKey
from .exponential import ExponentialHistogram
from .messages import KeyValue, attributes, metrics_pb2

__all__ = ["Families"]

_GONE = int(metrics_pb2.DATA_POINT_FLAGS_NO_RECORDED_VALUE_MASK)
"""Ends a series: https://opentelemetry.io/docs/specs/otel/metrics/data-model/#no-recorded-value"""
_CUMULATIVE = metrics_pb2.AGGREGATION_TEMPORALITY_CUMULATIVE
_DELTA = metrics_pb2.AGGREGATION_TEMPORALITY_DELTA

_Key = tuple[str, tuple[tuple[str, str], ...]]
"""A series: name and labels."""
_Exemplars = Mapping[SeriesKey, Iterable[metrics_pb2.Exemplar]]


class Families:
    """Fills one request after the other: `begin`, `put` for each metric, `put_gone`, and `settle` when it was sent.

    A series that the last request had and this one has not is ended by one point without a value.
    """

    def __init__(self, temporality: str, *, start_nanoseconds: int) -> None:
        self._has_deltas = {"counter": temporality == "delta", "histogram": temporality != "cumulative"}
        self._start = self._delivered_time = self._now = start_nanoseconds
        self._distributions: Mapping[SeriesKey, ExponentialHistogram] | None = None
        self._exemplars: _Exemplars = {}
        self._attributes: dict[tuple[tuple[str, str], ...], list[KeyValue]] = {}
        self._metrics: dict[str, metrics_pb2.Metric] = {}
        self._shown: set[_Key] = set()
        self._shown_before: set[_Key] = set()
        self._totals: dict[_Key, float | Histogram] = {}
        self._delivered_totals: dict[_Key, float | Histogram] = {}

    @property
    def num_points(self) -> int:
        """Points of the latest request."""
        return len(self._shown)

    def begin(
        self,
        now_nanoseconds: int,
        distributions: Mapping[SeriesKey, ExponentialHistogram] | None,
        exemplars: _Exemplars,
    ) -> None:
        """Begin a request; without `distributions` histograms have the catalog's buckets."""
        self._now, self._distributions, self._exemplars = now_nanoseconds, distributions, exemplars
        self._metrics, self._totals = {}, {}
        self._shown_before |= self._shown
        self._shown = set()

    def put(self, scope: metrics_pb2.ScopeMetrics, entry: Metric, points: list[Point]) -> None:
        """Add the points of one metric; a metric without points is left out."""
        if not points:
            return
        data = self._data(scope, entry)
        optimizers = {labels.get("optimizer") for labels, _ in points}
        for labels, value in points:
            key = entry.name, tuple(labels.items())
            self._shown.add(key)
            point = data.data_points.add(time_unix_nano=self._now, attributes=self._attributes_of(key[1]))
            if entry.kind != "gauge":
                point.start_time_unix_nano = self._delivered_time if self._has_deltas[entry.kind] else self._start
            if not isinstance(value, Histogram):
                point.as_double = self._since(key, value) if entry.kind == "counter" else value
                if entry.name == ANOMALIES:
                    point.exemplars.extend(self._exemplars.get((ANOMALIES, labels.get("kind")), ()))
            elif self._distributions is None:
                self._fill_explicit(point, entry, key, value)
            else:
                self._fill_exponential(point, entry, labels, optimizers)

    def put_gone(self, scope: metrics_pb2.ScopeMetrics) -> None:
        """End the series that are no more."""
        for name, labels in sorted(self._shown_before - self._shown):
            point = self._data(scope, metric(name)).data_points.add(
                time_unix_nano=self._now, attributes=self._attributes_of(labels), flags=_GONE
            )
            if metric(name).kind != "gauge":
                point.start_time_unix_nano = self._start

    def settle(self, *, is_delivered: bool) -> None:
        """Say what became of the request."""
        if is_delivered:
            self._shown_before = set()
            self._delivered_totals |= self._totals
            self._delivered_time = self._now

    def _data(self, scope: metrics_pb2.ScopeMetrics, entry: Metric) -> Any:
        """Return the part of the metric's message that holds its points."""
        found = self._metrics.get(entry.name)
        is_new = found is None
        if found is None:
            found = scope.metrics.add(name=entry.name, unit=entry.unit, description=entry.help)
            self._metrics[entry.name] = found
        data: Any = found.gauge
        if entry.kind == "counter":
            data = found.sum
        elif entry.kind == "histogram":
            data = found.histogram if self._distributions is None else found.exponential_histogram
        if is_new and entry.kind != "gauge":
            data.aggregation_temporality = _DELTA if self._has_deltas[entry.kind] else _CUMULATIVE
        if is_new and entry.kind == "counter":
            data.is_monotonic = True
        return data

    def _attributes_of(self, labels: tuple[tuple[str, str], ...]) -> list[KeyValue]:
        known = self._attributes.get(labels)
        if known is None:
            known = self._attributes[labels] = attributes(dict(labels))
        return known

    def _since(self, key: _Key, value: float) -> float:
        """Return a counter's value, or what came since the last delivery."""
        if not self._has_deltas["counter"]:
            return value
        self._totals[key] = value
        before = self._delivered_totals.get(key, 0.0)
        assert not isinstance(before, Histogram), "a series does not change its kind"
        return value - before

    def _fill_explicit(self, point: Any, entry: Metric, key: _Key, total: Histogram) -> None:
        counts, amount = list(total.counts), total.sum
        if self._has_deltas["histogram"]:
            self._totals[key] = total
            before = self._delivered_totals.get(key)
            if isinstance(before, Histogram):
                counts = [count - old for count, old in zip(counts, before.counts, strict=True)]
                amount -= before.sum
        point.count, point.sum = sum(counts), amount
        point.bucket_counts.extend(counts)
        point.explicit_bounds.extend(entry.buckets)
        self._add_exemplars(point, entry, dict(key[1]))

    def _fill_exponential(self, point: Any, entry: Metric, labels: Labels, optimizers: Collection[str | None]) -> None:
        counts = self._distribution(entry.name, labels.get("optimizer"), optimizers)
        point.count, point.sum, point.scale = counts.count, counts.sum, counts.scale
        point.zero_count, point.zero_threshold = counts.zero_count, counts.zero_threshold
        point.positive.offset = counts.offset
        point.positive.bucket_counts.extend(counts.bucket_counts)
        if math.isfinite(counts.min):
            point.min, point.max = counts.min, counts.max
        self._add_exemplars(point, entry, labels)

    def _add_exemplars(self, point: Any, entry: Metric, labels: Labels) -> None:
        if entry.name == DURATION:
            point.exemplars.extend(self._exemplars.get((DURATION, labels.get("optimizer")), ()))

    def _distribution(self, name: str, optimizer: str | None, shown: Collection[str | None]) -> ExponentialHistogram:
        """Return what is counted under the label `optimizer`: `other` has all that have no series of their own."""
        assert self._distributions is not None
        found = [
            counts
            for (family, owner), counts in self._distributions.items()
            if family == name and (owner == optimizer or (optimizer == OTHER_OPTIMIZERS and owner not in shown))
        ]
        return reduce(ExponentialHistogram.merged, found, new_distribution(name)) if len(found) != 1 else found[0]
