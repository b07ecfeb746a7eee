"""Runs for the live page, made up: what an exporter is given, and a server that shows it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from tests.builders import (
    activity_report,
    anomaly,
    epoch_report,
    event,
    gradient_sample,
    gradient_table,
    health_report,
    layer_statistics,
    run_info,
    self_report,
    step_report,
)

from loopscope_exporters.live import LiveExporter
from loopscope_exporters.security import Security
from loopscope_exporters.server import MetricsServer

__all__ = ["LAYERS", "Shown", "feed", "feed_trouble", "shown"]

LAYERS = ("stem", "encoder.0", "encoder.1", "<b>head</b>")
"""One that would be markup, were it read as such."""
_WAITS = {
    "loopscope.device.syncs": {("train.py:12", "item"): 40.0, ("train.py:30", "bool"): 3.0},
    "loopscope.device.sync": {("train.py:12", "item"): 0.25},
    "loopscope.recompilations": {("forward (model.py:7)", "shape"): 5.0},
    "loopscope.graph_breaks": {("model.py:9", "print"): 2.0},
}


@dataclass
class Shown:
    """A server with one agent."""

    server: MetricsServer
    exporter: LiveExporter

    @property
    def url(self) -> str:
        """Address of the page."""
        return f"{self.server.url}/"

    def end(self) -> None:
        """End the run, as at the exit of its process."""
        self.exporter.close()


@contextmanager
def shown(*, port: int = 0, token: str | None = None, run: str = "run-1") -> Iterator[Shown]:
    """Show an agent that has said what run it is."""
    server = MetricsServer(port=port, security=Security(token=token))
    exporter = LiveExporter(server)
    exporter.export(run_info(run=run, layers=LAYERS, time_unix_seconds=time.time()))
    try:
        yield Shown(server, exporter)
    finally:
        exporter.close()


def feed(
    page: Shown, num_steps: int, *, first: int = 0, num_parameters: int = 8, layers: tuple[str, ...] = LAYERS
) -> None:
    """Take so many steps, with a falling loss, the last one now; an epoch at their end."""
    generator = np.random.default_rng(first)
    sample = gradient_sample(num_parameters, len(LAYERS))
    for step in range(first, first + num_steps):
        norms = generator.lognormal(-0.002 * step, 0.3, num_parameters)
        report = step_report(
            step,
            loss=float(3.0 * np.exp(-step / 100) + 0.02 * generator.random()),
            time_unix_seconds=time.time(),
            gradients=gradient_table(norms, layers=LAYERS, sample=sample if step % 10 == 0 else None),
        )
        page.exporter.export(report)
    page.exporter.export(epoch_report(gradients=layer_statistics(LAYERS), last_step=first + num_steps - 1))
    page.exporter.export(self_report())
    page.exporter.flush()


def feed_trouble(page: Shown, step: int) -> None:
    """Open an incident with a first cause and a consequence, and wait and recompile at some lines."""
    layer = LAYERS[1]
    marks = {"incident": 1}
    page.exporter.export(
        event(
            "exploding_gradient", "critical", step, layer=layer, first_cause=True, attributes=marks, site="train.py:40"
        )
    )
    page.exporter.export(event("nonfinite_loss", "critical", step + 2, layer=None, attributes=marks))
    page.exporter.export(event("device_sync", "info", step, layer=None, site="train.py:12", message="The host waits."))
    page.exporter.export(health_report(anomaly("exploding_gradient", layers=(layer,), step=step)))
    page.exporter.export(activity_report(_WAITS))
