"""OTLP: metrics, events as logs, epochs and incidents as spans to an OpenTelemetry collector.

Where to, and how, is said by OpenTelemetry's own environment variables (see docs/opentelemetry.md).
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Mapping

from loopscope.protocols import Exporter
from loopscope.records import EpochReport, Event, Record, RunInfo, StepReport

from .answers import Transport
from .endpoint import GRPC
from .environment import Destination, Settings, read_settings
from .lane import Lane, Source
from .logs import encode_logs, log_record
from .messages import LogRecord, Span
from .metrics import Metrics
from .over_http import OverHttp
from .resource import make_resource, make_scope
from .spans import Spans, encode_spans
from .waiting import Waiting

__all__ = ["OtlpExporter", "create"]

CLOSE_SECONDS = 0.5
"""Longest time that `close` takes: the end of a process leaves its agents 0.9 s in all."""


class OtlpExporter:
    """Sends what one agent reports, each signal on a thread of its own, in which all waiting is done.

    `export` takes some microseconds and never waits. What a collector does not take in time is kept, within bounds;
    the oldest gives way and is counted in `num_dropped`. OpenTelemetry's SDK, its global providers and what the user
    has made of them are not touched.
    """

    name = "otlp"

    def __init__(self, settings: Settings, *, clock: Callable[[], float] = time.time) -> None:
        self._settings, self._clock = settings, clock
        self._transports = {signal: _transport(signal, to) for signal, to in settings.destinations.items()}
        self._pid = os.getpid()
        self._is_closed = False
        self._lanes: dict[str, Lane] = {}
        self._metrics: Metrics | None = None
        self._logs: Waiting[LogRecord] | None = None
        self._traces: Waiting[Span] | None = None
        self._spans: Spans | None = None

    @property
    def num_dropped(self) -> dict[str, int]:
        """Data points, log records and spans that were not delivered and will not be, by signal."""
        return {signal: lane.num_dropped for signal, lane in self._lanes.items()}

    @property
    def cpu_seconds(self) -> float:
        """CPU time that the threads have taken so far; any thread."""
        return sum(lane.cpu_seconds for lane in self._lanes.values())

    def export(self, record: Record) -> None:
        """Take one record in; the first is the RunInfo."""
        if self._is_closed or os.getpid() != self._pid:
            return
        if isinstance(record, RunInfo) and not self._lanes:
            self._open(record)
        if self._metrics is not None:
            self._metrics.add(record)
        if isinstance(record, StepReport):
            self._export_step(record)
        elif isinstance(record, EpochReport) and self._spans is not None:
            self._put_spans([self._spans.epoch(record)])
        elif isinstance(record, Event):
            self._export_event(record)

    def flush(self) -> None:
        """Raise what has gone wrong on a thread of ours; what waits is sent when it is due, or when it is much."""
        for lane in self._lanes.values():
            lane.check()

    def close(self) -> None:
        """Send what is left, within CLOSE_SECONDS, and end the threads; a second call does nothing."""
        if self._is_closed:
            return
        if os.getpid() != self._pid:
            self.close_in_child()
            return
        self._is_closed = True
        deadline = time.monotonic() + CLOSE_SECONDS
        if self._spans is not None:
            self._put_spans(self._spans.close())
        for lane in self._lanes.values():
            lane.end(deadline)
        for lane in self._lanes.values():
            lane.join()

    def close_in_child(self) -> None:
        """After a fork, in the child: send nothing, take no lock, join nothing."""
        self._is_closed = True
        self._lanes = {}

    def _open(self, run: RunInfo) -> None:
        resource, scope = make_resource(run, self._settings.resource), make_scope(run)
        for signal in self._settings.destinations:
            if signal == "metrics":
                self._metrics = Metrics(run, self._settings, resource, scope, self._clock)
                self._add_lane(signal, self._metrics, self._settings.interval_seconds)
                continue
            pace = self._settings.paces[signal]
            if signal == "logs":
                self._logs = Waiting(lambda records: encode_logs(records, resource, scope), pace)
                self._add_lane(signal, self._logs, pace.delay_seconds)
            else:
                self._traces = Waiting(lambda spans: encode_spans(spans, resource, scope), pace)
                self._spans = Spans(run)
                self._add_lane(signal, self._traces, pace.delay_seconds)

    def _add_lane(self, signal: str, source: Source, interval_seconds: float) -> None:
        destination = self._settings.destinations[signal]
        self._lanes[signal] = Lane(
            signal,
            self._transports[signal],
            source,
            name=f"the OpenTelemetry collector at {destination.endpoint}",
            timeout_seconds=destination.timeout_seconds,
            interval_seconds=interval_seconds,
            jitter=random.random,
        )
        # At once: since Python 3.12 the end of the interpreter, which has the last to send, grants no threads.
        self._lanes[signal].start()

    def _export_step(self, report: StepReport) -> None:
        found = None if self._spans is None else self._spans.step(report)
        if found is not None:
            span, incident = found
            self._put_spans([span])
            if self._metrics is not None:
                self._metrics.add_incident(incident)

    def _export_event(self, event: Event) -> None:
        incident = None if self._spans is None else self._spans.incident(event)
        if incident is not None and self._metrics is not None and event.severity in {"warning", "critical"}:
            self._metrics.add_incident(incident, event)
        if self._logs is None:
            return
        ids = {} if incident is None else {"trace_id": incident.trace_id, "span_id": incident.span_id}
        self._logs.put(log_record(event, observed_time_unix_seconds=self._clock(), **ids))
        self._lanes["logs"].nudge()

    def _put_spans(self, spans: list[Span]) -> None:
        assert self._traces is not None, "spans are made where they are sent"
        for span in spans:
            self._traces.put(span)
        self._lanes["traces"].nudge()


def create(settings: Mapping[str, object]) -> Exporter:
    """Return an exporter as OTEL_* say; no setting of ours is read."""
    return OtlpExporter(read_settings(os.environ))  # noqa: TID251 (the variables are OpenTelemetry's, not ours)


def _transport(signal: str, destination: Destination) -> Transport:
    if destination.protocol != GRPC:
        return OverHttp(destination)
    from .over_grpc import OverGrpc

    return OverGrpc(signal, destination)
