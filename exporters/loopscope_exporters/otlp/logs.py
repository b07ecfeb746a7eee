"""Logs: events as OpenTelemetry's log records with an event name.

https://opentelemetry.io/docs/specs/otel/logs/data-model/
"""

from __future__ import annotations

from collections.abc import Sequence

from loopscope.records import Event

from ..points import clean
from .messages import (
    ExportLogsServiceRequest,
    InstrumentationScope,
    LogRecord,
    Resource,
    SeverityNumber,
    attributes,
    nanoseconds,
)

__all__ = ["encode_logs", "event_attributes", "event_name", "log_record"]

_SEVERITIES = {
    "info": SeverityNumber.SEVERITY_NUMBER_INFO,
    "warning": SeverityNumber.SEVERITY_NUMBER_WARN,
    "critical": SeverityNumber.SEVERITY_NUMBER_ERROR,  # FATAL is a process that dies, and training goes on
}
_HAS_SPAN_FLAGS = 1
"""https://www.w3.org/TR/trace-context/#sampled-flag"""


def event_name(event: Event) -> str:
    """Return the kind under our prefix, as event names are to be unique among all there are."""
    return clean(f"loopscope.{event.kind}")


def event_attributes(event: Event) -> dict[str, object]:
    """Return what is known of an event; the event's own attributes keep their names where ours leave them free."""
    path, _, line = (event.site or "").rpartition(":")
    code = {"code.file.path": path, "code.line.number": int(line)} if path and line.isdecimal() else {}
    return {
        **{str(name): value for name, value in event.attributes.items()},
        "kind": event.kind,
        "severity": event.severity,
        "step": event.step,
        "epoch": event.epoch,
        "layer": event.layer,
        "site": event.site,
        **code,
        "value": event.value,
        "threshold": event.threshold,
        "first_cause": event.first_cause,
        "remedy": event.remedy or None,
        "run": event.run or None,
        "agent": event.agent or None,
        "rank": event.rank,
        "optimizer": event.optimizer,
    }


def log_record(
    event: Event, *, observed_time_unix_seconds: float, trace_id: bytes = b"", span_id: bytes = b""
) -> LogRecord:
    """Return an event as a log record, tied to the span of its step where there is one."""
    record = LogRecord(
        time_unix_nano=nanoseconds(event.time_unix_seconds),
        observed_time_unix_nano=nanoseconds(observed_time_unix_seconds),
        severity_number=_SEVERITIES.get(event.severity, SeverityNumber.SEVERITY_NUMBER_UNSPECIFIED),
        severity_text=clean(event.severity),
        event_name=event_name(event),
        attributes=attributes(event_attributes(event)),
        trace_id=trace_id,
        span_id=span_id,
        flags=_HAS_SPAN_FLAGS if span_id else 0,
    )
    record.body.string_value = clean(event.message)
    return record


def encode_logs(records: Sequence[LogRecord], resource: Resource, scope: InstrumentationScope) -> bytes:
    """Return a request with these records."""
    request = ExportLogsServiceRequest()
    entry = request.resource_logs.add(resource=resource)
    entry.scope_logs.add(scope=scope).log_records.extend(records)
    body: bytes = request.SerializeToString()
    return body
