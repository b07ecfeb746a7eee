"""Spans: epochs, and the steps in them that had an incident, as OpenTelemetry's traces; one trace an epoch.

Ids are digests of what they stand for, so that a log record or an exemplar finds its span without asking anybody.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from loopscope.records import EpochReport, Event, RunInfo, StepReport

from ..points import clean
from .logs import event_attributes, event_name
from .messages import (
    ExportTraceServiceRequest,
    InstrumentationScope,
    Resource,
    Span,
    Status,
    attributes,
    nanoseconds,
)

__all__ = ["Incident", "Spans", "encode_spans"]

MAX_OPEN = 64
"""Epochs and incidents that are remembered at the most, until they end or an event asks for them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Incident:
    """A step with an incident: which one, and its span."""

    optimizer: str | None
    step: int
    duration_seconds: float | None
    time_unix_seconds: float
    trace_id: bytes
    span_id: bytes


class _Ids(NamedTuple):
    trace_id: bytes
    span_id: bytes
    parent_id: bytes = b""


class Spans:
    """Makes the spans of one run; not thread-safe.

    A step's span is made at the step, before that of the epoch that it is in; windows are spans within their epoch.
    """

    def __init__(self, run: RunInfo) -> None:
        self._run = f"{run.run}/{run.agent}/{run.rank}/{run.pid}/{run.time_unix_seconds}"
        self._constant = {"run": run.run, "agent": run.agent, "rank": run.rank}
        self._times: dict[tuple[str | None, int], tuple[float, float]] = {}
        """Begin and end so far of the epochs that have not ended."""
        self._window_ends: dict[str | None, float] = {}
        self._incidents: deque[Incident] = deque(maxlen=MAX_OPEN)

    def step(self, report: StepReport) -> tuple[Span, Incident] | None:
        """Return the span of a step with an incident, None for other steps."""
        end = report.time_unix_seconds
        begin = end - (report.duration_seconds or 0.0)
        self._note(report.optimizer, report.epoch, begin, end)
        critical = [event for event in report.events if event.severity == "critical"]
        if not critical and all(event.severity != "warning" for event in report.events):
            return None
        trace_id, epoch_id = self._ids(report.optimizer, report.epoch)
        number = f"step/{report.optimizer}/{report.step}/{report.skipped}/{report.time_unix_seconds}"
        incident = Incident(
            optimizer=report.optimizer,
            step=report.step,
            duration_seconds=report.duration_seconds if report.skipped is None else None,
            time_unix_seconds=report.time_unix_seconds,
            trace_id=trace_id,
            span_id=_digest(f"{self._run}/{number}", 8),
        )
        self._incidents.append(incident)
        values = {**self._constant, **_step_attributes(report)}
        span = _span("step", _Ids(trace_id, incident.span_id, epoch_id), begin, end, values)
        span.events.extend(_span_event(event, report) for event in report.events)
        if critical:
            span.status.CopyFrom(Status(code=Status.STATUS_CODE_ERROR, message=clean(critical[0].message)))
        return span, incident

    def epoch(self, report: EpochReport) -> Span:
        """Return the span of an epoch or a window; its length is wall time, validation included."""
        end, key = report.time_unix_seconds, (report.optimizer, report.epoch)
        start, _ = self._times.get(key, (end - report.duration_seconds, end))
        trace_id, span_id = self._ids(*key)
        parent_id = b""
        if report.kind == "epoch":
            self._times.pop(key, None)
            self._window_ends.pop(report.optimizer, None)
        else:
            start = max(start, self._window_ends.get(report.optimizer, start))
            self._window_ends[report.optimizer] = end
            window_id = _digest(f"{self._run}/window/{key}/{report.window}/{report.first_step}", 8)
            parent_id, span_id = span_id, window_id
        values = {**self._constant, **_epoch_attributes(report)}
        return _span(report.kind, _Ids(trace_id, span_id, parent_id), start, end, values)

    def incident(self, event: Event) -> Incident | None:
        """Return the step that `event` was told of at, None where it has no span."""
        for incident in reversed(self._incidents):
            if incident.step == event.step and event.optimizer in {None, incident.optimizer}:
                return incident
        return None

    def close(self) -> list[Span]:
        """Return the spans of epochs that have not ended: what is in them has its parent then."""
        spans = []
        for (optimizer, epoch), (start, end) in self._times.items():
            trace_id, span_id = self._ids(optimizer, epoch)
            values = {**self._constant, "optimizer": optimizer, "epoch": epoch, "is_complete": False}
            spans.append(_span("epoch", _Ids(trace_id, span_id), start, end, values))
        self._times.clear()
        return spans

    def _note(self, optimizer: str | None, epoch: int, begin: float, end: float) -> None:
        start, _ = self._times.get((optimizer, epoch), (begin, end))
        self._times[optimizer, epoch] = (start, end)
        if len(self._times) > MAX_OPEN:
            del self._times[next(iter(self._times))]

    def _ids(self, optimizer: str | None, epoch: int) -> tuple[bytes, bytes]:
        """Return the ids of the trace of an epoch and of its first span."""
        text = f"{self._run}/{optimizer}/{epoch}"
        return _digest(f"{text}/trace", 16), _digest(f"{text}/epoch", 8)


def encode_spans(spans: Sequence[Span], resource: Resource, scope: InstrumentationScope) -> bytes:
    """Return a request with these spans."""
    request = ExportTraceServiceRequest()
    entry = request.resource_spans.add(resource=resource)
    entry.scope_spans.add(scope=scope).spans.extend(spans)
    body: bytes = request.SerializeToString()
    return body


def _span(name: str, ids: _Ids, start: float, end: float, values: Mapping[str, object]) -> Span:
    return Span(
        trace_id=ids.trace_id,
        span_id=ids.span_id,
        parent_span_id=ids.parent_id,
        name=clean(name),
        kind=Span.SPAN_KIND_INTERNAL,
        start_time_unix_nano=nanoseconds(min(start, end)),
        end_time_unix_nano=nanoseconds(end),
        attributes=attributes(values),
    )


def _span_event(event: Event, report: StepReport) -> Span.Event:
    return Span.Event(
        time_unix_nano=nanoseconds(event.time_unix_seconds or report.time_unix_seconds),
        name=event_name(event),
        attributes=attributes({"message": event.message, **event_attributes(event)}),
    )


def _step_attributes(report: StepReport) -> dict[str, object]:
    gradients = report.gradients
    return {
        "optimizer": report.optimizer,
        "step": report.step,
        "epoch": report.epoch,
        "skipped": report.skipped,
        "micro_steps": report.micro_steps,
        "samples": report.samples,
        "loss": report.loss,
        "gradient.global_norm": None if gradients is None or gradients.scope != "full" else gradients.global_norm,
        **{f"phase.{name}": seconds for name, seconds in report.phases.items()},
    }


def _epoch_attributes(report: EpochReport) -> dict[str, object]:
    return {
        "optimizer": report.optimizer,
        "epoch": report.epoch,
        "window": report.window,
        "first_step": report.first_step,
        "last_step": report.last_step,
        "steps": report.num_steps,
        "skipped_steps": sum(report.num_skipped.values()),
        "samples": report.num_samples,
        "duration_seconds": report.duration_seconds,
        "loss": report.loss,
        "nonfinite_steps": report.num_nonfinite_steps,
        "gradient.global_norm.mean": report.global_norm.get("mean"),
        "gradient.global_norm.max": report.global_norm.get("max"),
    }


def _digest(text: str, size: int) -> bytes:
    """Return an id; all zeros would be none, which a digest as good as never is."""
    return hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=size).digest()
