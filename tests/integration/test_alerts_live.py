"""From a training loop that goes wrong to the message that a person gets, through Prometheus and Alertmanager."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.alertmanager_server import AlertmanagerServer, WebhookReceiver, needs_alertmanager
from tests.loops import batch, network
from tests.prometheus_server import PrometheusServer
from torch.optim import SGD

import loopscope
from loopscope_dashboards.rules import rule_files
from loopscope_dashboards.settings import RuleSettings

pytestmark = needs_alertmanager
SHORT = RuleSettings(
    rate_window_seconds=5,
    recent_seconds=4,
    keep_firing_seconds=1,
    line_seconds=2,
    stalled_seconds=4,
    target_down_seconds=1,
    target_memory_seconds=8,
)
"""The same rules with everything short: scrapes and evaluations are a second apart."""
PATIENCE_SECONDS = 30.0
LAST_LAYER = "2"


class Loop:
    """A training loop that can be made to go wrong and mended, and who waits for its alerts."""

    def __init__(self, receiver: WebhookReceiver, **settings: Any) -> None:
        self.receiver = receiver
        self.model = network()
        self.optimizer = SGD(self.model.parameters(), 0.01)
        self.inputs = batch()
        self.sound = copy.deepcopy(self.model.state_dict())
        self.factor, self.num_waits = 1.0, 0
        self.model[2].weight.register_hook(lambda gradient: gradient * self.factor)
        self.agent = loopscope.attach(self.model, self.optimizer, port=0, log_events=False, **settings)

    @property
    def target(self) -> str:
        """What Prometheus scrapes."""
        return self.agent.url.removeprefix("http://")

    def step(self) -> None:
        """Take one training step."""
        self.optimizer.zero_grad()
        loss = self.model(self.inputs).square().mean()
        for _ in range(self.num_waits):
            loss.item()  # the planted storm
        loss.backward()
        self.optimizer.step()
        time.sleep(0.002)

    def rest(self) -> None:
        """Take no step."""
        time.sleep(0.01)

    def go_on(self, act: Callable[[], None], until: Callable[[], Any]) -> Any:
        """Act again and again until something is true, and return it; AssertionError when it does not come."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not (value := until()):
            assert time.monotonic() < deadline, f"nothing but {sorted(self.receiver.names())} in {PATIENCE_SECONDS} s"
            act()
        return value


@pytest.fixture
def watched(tmp_path):
    """Return what starts a loop that Prometheus scrapes, with our rules; all is stopped at the end."""
    (tmp_path / "rules.yaml").write_text(rule_files(SHORT)["rules.yaml"])
    loops: list[Loop] = []
    with WebhookReceiver() as receiver, AlertmanagerServer(tmp_path, receiver.url) as alertmanager:
        servers: list[PrometheusServer] = []

        def start(**settings: Any) -> tuple[Loop, PrometheusServer]:
            loop = Loop(receiver, **settings)
            loops.append(loop)
            server = PrometheusServer(
                tmp_path,
                [loop.target],
                scrape_interval="1s",
                rules=[tmp_path / "rules.yaml"],
                alertmanagers=[alertmanager.address],
            )
            servers.append(server.__enter__())
            return loop, server

        try:
            yield start
        finally:
            for server in servers:
                server.__exit__(None, None, None)
            for loop in loops:
                loop.agent.detach()


def test_nan_is_told_with_its_layer_and_resolves(watched):
    """A healthy loop is silent; a NaN planted in the last layer arrives with that layer; mended weights resolve it."""
    loop, prometheus = watched()
    loop.go_on(loop.step, until=lambda: prometheus.query("loopscope_steps_total > 50"))
    assert loop.receiver.names() == set()

    loop.factor = math.nan
    alert = loop.go_on(loop.step, until=lambda: loop.receiver.find("LoopscopeNonfiniteGradient"))

    assert alert["labels"]["severity"] == "critical"
    assert alert["labels"]["instance"] == loop.target
    assert alert["annotations"]["layer"] == LAST_LAYER
    assert f"layer {LAST_LAYER}:" in alert["annotations"]["description"]
    assert alert["annotations"]["runbook_url"].endswith("/loopscopenonfinitegradient.md")

    loop.factor = 1.0
    loop.model.load_state_dict(loop.sound)
    resolved = loop.go_on(loop.step, until=lambda: loop.receiver.find("LoopscopeNonfiniteGradient", "resolved"))

    assert resolved["labels"] == alert["labels"]
    assert resolved["startsAt"] == alert["startsAt"]


def test_sync_storm_is_told_with_its_line_and_resolves(watched):
    """Ten waits a step arrive as a storm with the line that waits; it resolves when the loop no longer does."""
    loop, prometheus = watched(sync_device="cpu")
    loop.go_on(loop.step, until=lambda: prometheus.query("loopscope_steps_total > 50"))
    assert loop.receiver.names() == set()

    loop.num_waits = 10
    alert = loop.go_on(loop.step, until=lambda: loop.receiver.find("LoopscopeDeviceSyncStorm"))

    line = next(number for number, text in enumerate(_source(), start=1) if "# the planted storm" in text)
    assert alert["labels"]["severity"] == "warning"
    assert alert["annotations"]["site"].endswith(f"test_alerts_live.py:{line}")

    loop.num_waits = 0
    loop.go_on(loop.step, until=lambda: loop.receiver.find("LoopscopeDeviceSyncStorm", "resolved"))


def test_stalled_run_is_told_resolves_and_is_not_one_that_has_ended(watched):
    """A loop that takes no steps is told, until it steps again; one that has ended is a target that is gone."""
    loop, prometheus = watched()
    loop.go_on(loop.step, until=lambda: prometheus.query("loopscope_steps_total > 50"))
    assert loop.receiver.names() == set()

    loop.go_on(loop.rest, until=lambda: loop.receiver.find("LoopscopeRunStalled"))
    resolved = loop.go_on(loop.step, until=lambda: loop.receiver.find("LoopscopeRunStalled", "resolved"))
    loop.agent.detach()
    loop.go_on(loop.rest, until=lambda: loop.receiver.find("LoopscopeTargetDown"))
    loop.go_on(loop.rest, until=lambda: loop.receiver.find("LoopscopeTargetDown", "resolved"))

    latest = loop.receiver.find("LoopscopeRunStalled")
    assert latest is not None
    assert latest["startsAt"] == resolved["startsAt"]


def _source() -> list[str]:
    return Path(__file__).read_text(encoding="utf-8").splitlines()
