"""A real Prometheus scrapes a live training run, and says what the run's own log says."""

from __future__ import annotations

import math
import shutil
import subprocess

import pytest
from tests.loops import network, samples
from tests.prometheus_server import PrometheusServer
from tests.web import request
from torch.optim import SGD
from torch.utils.data import DataLoader

import loopscope
from loopscope_exporters.jsonl import read

pytestmark = pytest.mark.skipif(
    not PrometheusServer.is_installed(), reason="prometheus is not installed (apt-get install prometheus)"
)
NUM_STEPS = 25


class Run:
    """A training loop that can be stopped at a step, with its log and its page."""

    def __init__(self, agent, model, optimizer, log) -> None:
        self.agent, self.model, self.optimizer, self.log = agent, model, optimizer, log
        self.factor = 1.0
        self.num_steps = 0
        model[2].weight.register_hook(lambda gradient: gradient * self.factor)

    @property
    def target(self) -> str:
        """What Prometheus scrapes."""
        return self.agent.url.removeprefix("http://")

    def train(self, num_steps: int) -> None:
        """Train; the log and the page have every step afterwards."""
        while num_steps:
            for inputs in DataLoader(samples(20), batch_size=2):
                self.optimizer.zero_grad()
                self.model(inputs).square().mean().backward()
                self.optimizer.step()
                self.num_steps += 1
                num_steps -= 1
                if not num_steps:
                    break
        assert self.agent.flush(10)

    def last(self, kind: str):
        """Return the last entry of a type in the log."""
        return [entry for entry in read(self.log) if entry["type"] == kind][-1]


@pytest.fixture
def run(tmp_path):
    """A run with a page and a log."""
    model = network()
    optimizer = SGD(model.parameters(), 0.01)
    log = tmp_path / "log.jsonl"
    with loopscope.attach(model, optimizer, port=0, jsonl=str(log), log_events=False) as agent:
        yield Run(agent, model, optimizer, log)


@pytest.fixture
def prometheus(run, tmp_path):
    """A Prometheus that scrapes it."""
    directory = tmp_path / "prometheus"
    directory.mkdir()
    with PrometheusServer(directory, [run.target]) as server:
        yield server


def by(label: str, result) -> dict[str, float]:
    """Return a result by one of its labels."""
    return {dict(labels)[label]: value for labels, value in result.items()}


def test_queries_return_what_the_log_holds(run, prometheus):
    """For the step that Prometheus shows, loss and counts are those of the log's line of that step, and the norms too.

    The log writes norms with nine digits.
    """
    run.train(NUM_STEPS)
    prometheus.wait_for(f"loopscope_step == {NUM_STEPS - 1}")
    step, epoch = run.last("step"), run.last("epoch")
    gradients = step["gradients"]

    assert step["step"] == NUM_STEPS - 1
    norms = dict(zip(gradients["layers"], gradients["layer_norms"], strict=True))
    assert by("layer", prometheus.query("loopscope_gradient_norm")) == pytest.approx(norms, rel=1e-8)
    assert by("stage", prometheus.query("loopscope_gradient_global_norm")) == pytest.approx(
        {"post_clip": gradients["global_norm"]}, rel=1e-8
    )
    assert by("source", prometheus.query("loopscope_loss")) == {"backward": step["loss"]}
    assert by("group", prometheus.query("loopscope_learning_rate")) == {"0": 0.01}
    assert list(prometheus.query("loopscope_epoch").values()) == [step["epoch"]]
    assert list(prometheus.query("loopscope_steps_total").values()) == [NUM_STEPS]
    assert list(prometheus.query("loopscope_samples_total").values()) == [2 * NUM_STEPS]
    assert list(prometheus.query("loopscope_step_duration_seconds_count").values()) == [NUM_STEPS]
    means = by("layer", prometheus.query('loopscope_epoch_gradient_norm{stat="mean"}'))
    expected = dict(zip(epoch["gradients"]["layers"], epoch["gradients"]["mean"], strict=True))
    assert means == pytest.approx(expected, rel=1e-8)


def test_numbers_follow_the_live_loop(run, prometheus):
    """While the loop goes on each scrape shows a later step; counters only grow."""
    for total in (10, 20, 30):
        run.train(10)
        shown = prometheus.wait_for(f"loopscope_steps_total == {total}")

        assert list(shown.values()) == [total]
        assert list(prometheus.query("loopscope_loss").values()) == [run.last("step")["loss"]]
    assert list(prometheus.query("resets(loopscope_steps_total[1m])").values()) == [0.0]


def test_rate_of_phases_can_be_asked_for(run, prometheus):
    """The seconds by phase add up to the sum of the durations, in PromQL as in the log."""
    run.train(NUM_STEPS)
    prometheus.wait_for(f"loopscope_steps_total == {NUM_STEPS}")
    seconds = by("phase", prometheus.query("loopscope_step_phase_seconds_total"))
    (duration,) = prometheus.query("loopscope_step_duration_seconds_sum").values()
    entries = [entry for entry in read(run.log) if entry["type"] == "step"]

    assert sum(seconds.values()) == pytest.approx(duration, rel=1e-6)
    assert duration == pytest.approx(math.fsum(entry["duration_seconds"] for entry in entries), rel=1e-9)


def test_increase_sees_the_first_event(run, prometheus):
    """Counters exist with 0 before anything happens, so that `increase` sees even the first non-finite gradient."""
    run.train(5)
    prometheus.wait_for("loopscope_steps_total == 5")
    assert set(prometheus.query("loopscope_gradient_nonfinite_total").values()) == {0.0}
    assert by("kind", prometheus.query("loopscope_anomalies_total"))["nonfinite_gradient"] == 0.0
    run.factor = math.nan
    run.train(1)

    prometheus.wait_for("loopscope_steps_total == 6")
    increases = by("layer", prometheus.wait_for("increase(loopscope_gradient_nonfinite_total[1m]) > 0"))
    assert set(increases) == {"2"}
    events = by("kind", prometheus.wait_for("increase(loopscope_anomalies_total[1m]) > 0"))
    assert "nonfinite_gradient" in events
    assert run.last("event")["layer"] in {"2", None}


def test_skipped_steps_are_counted(run, prometheus):
    """A step that the loop leaves out is in the counter of skips and not in that of steps."""
    run.train(3)
    run.model(samples(1)[0]).mean().backward()
    run.optimizer.zero_grad()
    assert run.agent.flush(10)

    prometheus.wait_for('loopscope_skipped_steps_total{reason="manual"} == 1')
    assert list(prometheus.query("loopscope_steps_total").values()) == [3]
    assert run.last("step")["skipped"] == "manual"


def test_series_are_gone_after_detach(run, prometheus):
    """After detach the target is down and its series are stale."""
    run.train(3)
    prometheus.wait_for("loopscope_steps_total == 3")
    run.agent.detach()

    prometheus.wait_for("absent(loopscope_steps_total)")
    assert list(prometheus.query("up").values()) == [0.0]


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool comes with prometheus, which is not installed")
@pytest.mark.parametrize("num_steps", [0, 1, NUM_STEPS])
def test_promtool_finds_nothing(run, num_steps):
    """The page of a live agent is clean in the eyes of promtool, before the first step as after many."""
    run.train(num_steps)
    page = request(f"{run.agent.url}/metrics").text
    checked = subprocess.run(
        ["promtool", "check", "metrics"], input=page, capture_output=True, text=True, check=False, timeout=30
    )

    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")
    assert page.count("# TYPE loopscope_") > 10
