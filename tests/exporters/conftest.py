"""What several files of this folder need: a server, a Prometheus exporter on it, and a place for a log."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from loopscope_exporters.prometheus import PrometheusExporter
from loopscope_exporters.server import MetricsServer


@pytest.fixture
def server() -> Iterator[MetricsServer]:
    """A server of its own, held by the test."""
    server = MetricsServer(port=0)
    server.retain()
    yield server
    server.release()


@pytest.fixture
def exporter(server: MetricsServer) -> Iterator[PrometheusExporter]:
    """A Prometheus exporter on it."""
    exporter = PrometheusExporter(server)
    yield exporter
    exporter.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the log goes."""
    return tmp_path / "run.jsonl"
