"""What the OTLP exporter would send for given records, without a collector."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from tests import builders

from loopscope.records import Record, RunInfo
from loopscope_exporters.otlp.answers import Outcome
from loopscope_exporters.otlp.environment import read_settings
from loopscope_exporters.otlp.metrics import Metrics
from loopscope_exporters.otlp.resource import make_resource, make_scope

__all__ = ["Sender", "metrics_of"]


class Sender:
    """The metrics of one run, taken turn by turn; the clock shows `time`, in seconds since the start of the run."""

    def __init__(self, run: RunInfo | None = None, **variables: str) -> None:
        run = builders.run_info() if run is None else run
        names = (name if name.startswith("OTEL_") else f"OTEL_EXPORTER_OTLP_{name}" for name in variables)
        settings = read_settings(dict(zip(names, variables.values(), strict=True)))
        self.time = 0.0
        self.start = round(run.time_unix_seconds * 1e9)
        resource, scope = make_resource(run, settings.resource), make_scope(run)
        self.metrics = Metrics(run, settings, resource, scope, lambda: run.time_unix_seconds + self.time)
        self.metrics.add(run)

    def turn(self, *records: Record, outcome: Outcome = Outcome.DELIVERED, is_last: bool = False) -> dict[str, Any]:
        """Add records, take a request and say what became of it; return its metrics by name."""
        for record in records:
            self.metrics.add(record)
        body = self.metrics.take(is_last=is_last)
        assert body is not None
        self.metrics.settle(outcome, 0)
        if outcome is not Outcome.RETRY:
            assert self.metrics.take(is_last=is_last) is None, "one request a turn"
        (resource,) = ExportMetricsServiceRequest.FromString(body).resource_metrics
        (scope,) = resource.scope_metrics
        names = [metric.name for metric in scope.metrics]
        assert len(names) == len(set(names)), "a metric is there once"
        return {metric.name: metric for metric in scope.metrics}


def metrics_of(records: Iterable[Record], **variables: str) -> dict[str, Any]:
    """Return the metrics by name that are sent for records, the first of which is the run's."""
    run, *others = records
    assert isinstance(run, RunInfo)
    return Sender(run, **variables).turn(*others)
