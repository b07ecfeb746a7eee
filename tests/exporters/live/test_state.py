"""The live state: one JSON document of what every agent last said."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator

import numpy as np
import pytest
from tests.builders import (
    anomaly,
    epoch_report,
    event,
    gradient_sample,
    gradient_table,
    health_report,
    run_info,
    self_report,
    step_report,
)
from tests.web import request

from loopscope_exporters.live import LiveExporter
from loopscope_exporters.prometheus import PrometheusExporter
from loopscope_exporters.server import MetricsServer


@pytest.fixture
def server() -> Iterator[MetricsServer]:
    """A server of its own."""
    server = MetricsServer(port=0)
    server.retain()
    yield server
    server.release()


@pytest.fixture
def exporter(server: MetricsServer) -> Iterator[LiveExporter]:
    """An exporter on it."""
    exporter = LiveExporter(server)
    yield exporter
    exporter.close()


def state(server: MetricsServer) -> dict:
    """The state, read by a strict parser."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    answer = request(server.url + "/api/state")
    assert answer.headers["content-type"].startswith("application/json")
    return json.loads(answer.body, parse_constant=refuse)


def test_the_latest_of_each_type_is_shown(server, exporter):
    """Of steps, epochs, health and self reports the latest is there, of events the last 20."""
    for record in (run_info(), step_report(1), step_report(2), epoch_report(0), epoch_report(1), self_report()):
        exporter.export(record)
    exporter.export(health_report(anomaly(), anomaly("loss_spike", layers=())))
    exporter.export(health_report(anomaly("loss_spike", layers=())))
    for step in range(30):
        exporter.export(event(step=step))

    agent = state(server)["agents"]["model"]

    assert (agent["run"]["model"], agent["step"]["step"], agent["epoch"]["epoch"]) == ("Sequential", 2, 1)
    assert agent["self"]["sample_interval_steps"] == 10
    assert [each["kind"] for each in agent["health"]["anomalies"]] == ["loss_spike"]
    assert [entry["step"] for entry in agent["events"]] == list(range(10, 30))


def test_what_has_not_come_is_null(server, exporter):
    """Before the first step there is none."""
    exporter.export(run_info())

    agent = state(server)["agents"]["model"]

    assert (agent["step"], agent["epoch"], agent["self"], agent["events"]) == (None, None, None, [])


def test_without_agents_there_is_an_empty_state(server, exporter):
    """A page without records is a valid document."""
    assert state(server) == {"version": 1, "agents": {}}


def test_the_size_is_bounded(server, exporter):
    """A model of 5,000 parameters in 64 layers has a state below 64 KiB: layers are shown, parameters are not."""
    layers = tuple(f"blocks.{index}" for index in range(64))
    table = gradient_table(np.full(5_000, 1 / 3), layers=layers, sample=gradient_sample(5_000, 64))
    exporter.export(run_info(layers=layers))
    exporter.export(step_report(gradients=table))

    assert len(request(server.url + "/api/state").body) < 64 * 1024
    assert len(state(server)["agents"]["model"]["step"]["gradients"]["layer_norms"]) == 64


def test_numbers_that_are_not_finite_are_valid_json(server, exporter):
    """NaN and infinity are texts, and gaps are null."""
    table = gradient_table((math.nan, math.inf), num_nonfinite=(0, 1))
    exporter.export(step_report(loss=math.nan, gradients=table))

    step = state(server)["agents"]["model"]["step"]

    assert step["loss"] == "NaN"
    assert step["gradients"]["layer_norms"] == [None, "Infinity"]


def test_agents_share_the_page_and_leave_it(server, exporter):
    """Two agents stand side by side; a closed one is gone."""
    second = LiveExporter(server)
    exporter.export(run_info(agent="a"))
    second.export(run_info(agent='b"\\'))
    both = set(state(server)["agents"])

    second.close()
    second.close()

    assert both == {"a", 'b"\\'}
    assert set(state(server)["agents"]) == {"a"}


def test_exporters_of_one_server_close_it_together():
    """The server ends with the last of its exporters, whichever kind that is."""
    server = MetricsServer(port=0)
    live, prometheus = LiveExporter(server), PrometheusExporter(server)

    prometheus.close()
    assert state(server)["agents"] == {}
    live.close()

    assert server.is_closed
