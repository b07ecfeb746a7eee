"""The messages of OTLP, and how plain values go into them; the only file that imports their generated classes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ..points import clean

try:
    from google.protobuf.message import DecodeError
    from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import (
        ExportLogsServiceRequest,
        ExportLogsServiceResponse,
    )
    from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
    from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, InstrumentationScope, KeyValue
    from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, SeverityNumber
    from opentelemetry.proto.metrics.v1 import metrics_pb2
    from opentelemetry.proto.resource.v1.resource_pb2 import Resource
    from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
except ImportError as fault:
    raise ImportError(
        "The exporter 'otlp' needs the messages of OpenTelemetry: pip install 'loopscope[otlp]'"
    ) from fault

__all__ = [
    "DecodeError",
    "ExportLogsServiceRequest",
    "ExportLogsServiceResponse",
    "ExportMetricsServiceRequest",
    "ExportTraceServiceRequest",
    "InstrumentationScope",
    "KeyValue",
    "LogRecord",
    "Resource",
    "SeverityNumber",
    "Span",
    "Status",
    "attributes",
    "metrics_pb2",
    "nanoseconds",
]

MAX_DEPTH = 8
"""Containers within containers, beyond which an attribute is sent as text: what is given may hold itself."""


def attributes(values: Mapping[str, object]) -> list[KeyValue]:
    """Return `values` as attributes; what is None is unknown and left out."""
    return [KeyValue(key=clean(key), value=_any(value)) for key, value in values.items() if value is not None]


def nanoseconds(time_unix_seconds: float) -> int:
    """Return a time as OTLP has it."""
    return round(time_unix_seconds * 1e6) * 1_000  # more digits than these a float of the time does not have


def _any(value: object, depth: int = 0) -> AnyValue:
    """Return any value: settings and attributes may hold anything, what OTLP does not know goes as text."""
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    if isinstance(value, bool):
        return AnyValue(bool_value=value)
    if isinstance(value, int) and -(2**63) <= value < 2**63:
        return AnyValue(int_value=value)
    if isinstance(value, float):
        return AnyValue(double_value=value)
    if depth < MAX_DEPTH and isinstance(value, Mapping):
        pairs = [KeyValue(key=clean(str(key)), value=_any(entry, depth + 1)) for key, entry in value.items()]
        message = AnyValue()
        message.kvlist_value.values.extend(pairs)
        message.kvlist_value.SetInParent()
        return message
    if depth < MAX_DEPTH and isinstance(value, list | tuple | set | frozenset):
        return AnyValue(array_value=ArrayValue(values=[_any(entry, depth + 1) for entry in value]))
    return AnyValue() if value is None else AnyValue(string_value=clean(str(value)))
