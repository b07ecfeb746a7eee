"""OTLP exporters for tests: pointed at a receiver, in a hurry, and closed at the end."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests import builders

from loopscope_exporters.otlp import OtlpExporter
from loopscope_exporters.otlp.environment import read_settings

__all__ = ["QUICK", "exporting"]

QUICK = {
    "OTEL_METRIC_EXPORT_INTERVAL": "100",
    "OTEL_BLRP_SCHEDULE_DELAY": "50",
    "OTEL_BSP_SCHEDULE_DELAY": "50",
}
"""Every signal is sent soon."""


@contextmanager
def exporting(endpoint: str, protocol: str = "grpc", **variables: str) -> Iterator[OtlpExporter]:
    """Export to `endpoint`; `variables` are OTEL_*, those of OTEL_EXPORTER_OTLP_ without that prefix in lower case."""
    named = {
        name if name.startswith("OTEL_") else f"OTEL_EXPORTER_OTLP_{name.upper()}": value
        for name, value in variables.items()
    }
    environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_EXPORTER_OTLP_PROTOCOL": protocol, **QUICK, **named}
    exporter = OtlpExporter(read_settings(environment))
    try:
        exporter.export(builders.run_info(time_unix_seconds=time.time()))
        yield exporter
    finally:
        exporter.close()
