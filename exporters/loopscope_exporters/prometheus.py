"""Prometheus: the series of all agents of a server at /metrics, as text or OpenMetrics."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import accumulate, chain
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.core import Metric
from prometheus_client.samples import Exemplar, Sample

from loopscope.catalog import METRICS
from loopscope.catalog import Metric as CatalogMetric
from loopscope.records import Record

from .points import Histogram, Points
from .series import AgentSeries
from .yielding import Yielding, give_way

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

    from .server import MetricsServer

__all__ = ["PATH", "MetricsPage", "PrometheusExporter"]

PATH = "/metrics"
_LINES_AT_ONCE = 8
_STEP_SECONDS_PER_LINE = 120e-6
"""Steps that are longer do not feel a whole answer: a tenth of it at the most, a line takes some 12 us."""
_UNITS = ("seconds", "bytes", "ratio")


class PrometheusExporter:
    """Shows the series of one agent on the server's /metrics until it is closed; holds the server open until then.

    What a gauge holds is the latest value; a gauge of what is sampled stays at the latest sampled step. What is not
    known has no sample. The text comes from prometheus_client, without the `_created` samples of its own instruments
    and without touching the default registry.
    """

    name = "prometheus"

    def __init__(self, server: MetricsServer) -> None:
        self._server = server
        self._series = AgentSeries()
        self._is_closed = False
        server.retain()
        self._page = server.share(PATH, MetricsPage)
        self._page.add(self._series)

    def export(self, record: Record) -> None:
        """Count a record in: a few microseconds, nothing is rendered before a scrape."""
        self._series.add(record)

    def flush(self) -> None:
        """Do nothing: a scrape sees every exported record."""

    def close(self) -> None:
        """Take the agent's series off the page and release the server; a second call does nothing.

        In a forked child, whose server was closed there, it takes no lock.
        """
        if self._is_closed or self._server.is_closed:
            return
        self._is_closed = True
        self._page.remove(self._series)
        self._server.release()


class MetricsPage:
    """The WSGI application and collector behind /metrics: the families of all agents, each family once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._agents: list[AgentSeries] = []
        registry = CollectorRegistry(auto_describe=False)
        registry.register(self)
        # The server compresses.
        self._application = make_wsgi_app(registry, disable_compression=True)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a scrape in the format that it asks for."""
        body: Iterable[bytes] = self._application(environ, start_response)
        return body

    def add(self, series: AgentSeries) -> None:
        """Show the series of one more agent."""
        with self._lock:
            self._agents.append(series)

    def remove(self, series: AgentSeries) -> None:
        """Show the series of one agent no longer."""
        with self._lock:
            self._agents.remove(series)

    def describe(self) -> Iterator[Metric]:
        """Yield every family without samples, which lets a scrape ask for some by `?name[]=`."""
        return (_family(entry) for entry in METRICS)

    def collect(self) -> Iterator[Metric]:
        """Yield the families that have samples."""
        with self._lock:
            agents = list(self._agents)
        collected = []
        for series in agents:
            collected.append(series.collect())
            give_way()
        num_points = sum(len(each) for points in collected for each in points.values())
        step_seconds = min((series.step_seconds for series in agents), default=0.0)
        every = None if step_seconds > _STEP_SECONDS_PER_LINE * num_points else _LINES_AT_ONCE
        for entry in METRICS:
            if any(points[entry.name] for points in collected):
                family = _family(entry)
                samples: Any = Yielding(partial(_all_samples, entry, family.name, collected), every)
                family.samples = samples  # prometheus_client only goes through them
                yield family


def _all_samples(entry: CatalogMetric, name: str, collected: Sequence[Points]) -> Iterator[Sample]:
    return chain.from_iterable(_samples(entry, name, points) for points in collected)


def _family(entry: CatalogMetric) -> Metric:
    name = entry.prometheus_name
    if entry.kind == "counter":
        name = name.removesuffix("_total")
    unit = next((unit for unit in _UNITS if name.endswith(f"_{unit}")), "")
    return Metric(name, entry.help, entry.kind, unit)


def _samples(entry: CatalogMetric, name: str, points: Points) -> Iterator[Sample]:
    sample_name = f"{name}_total" if entry.kind == "counter" else name
    for labels, value in points[entry.name]:
        if isinstance(value, Histogram):
            yield from _histogram_samples(entry, name, labels, value)
        else:
            yield Sample(sample_name, labels, value)


def _histogram_samples(
    entry: CatalogMetric, name: str, labels: dict[str, str], histogram: Histogram
) -> Iterator[Sample]:
    bounds = (*(repr(bound) for bound in entry.buckets), "+Inf")
    for index, (bound, count) in enumerate(zip(bounds, accumulate(histogram.counts), strict=True)):
        found = histogram.exemplars.get(index)
        step = None if found is None else Exemplar({"step": str(found.step)}, found.value, found.time_unix_seconds)
        yield Sample(f"{name}_bucket", {**labels, "le": bound}, count, exemplar=step)
    yield Sample(f"{name}_count", labels, sum(histogram.counts))
    yield Sample(f"{name}_sum", labels, histogram.sum)
