"""Laws of faults: whatever fails inside of loopscope, training ends with the weights of the bare run."""

from __future__ import annotations

import errno
import os
import socket
import threading

import pytest
import torch
from tests.loops import network, samples, watch, weights
from tests.waiting import wait_until
from tests.web import request
from torch.optim import SGD
from torch.utils.data import DataLoader

from loopscope.agent import Agent
from loopscope.assembly import Assembler
from loopscope.detectors.nonfinite import NonfiniteGradient, NonfiniteLoss
from loopscope.epochs import EpochAggregator
from loopscope.loop import Loop
from loopscope.loop.clock import Clock
from loopscope.loop.losses import LossSum
from loopscope.pipeline import Pipeline
from loopscope.probes.backward import BackwardProbe
from loopscope.probes.clipping import ClippingProbe
from loopscope.probes.gradients import GradientReader
from loopscope.probes.loader import LoaderProbe
from loopscope.probes.optimizers import OptimizerProbe
from loopscope.probes.samples import SampleReader
from loopscope.readback import Ring, Slot
from loopscope_exporters import rotating
from loopscope_exporters.jsonl import JsonlExporter
from loopscope_exporters.live import LiveExporter
from loopscope_exporters.log import LogExporter
from loopscope_exporters.memory import MemoryExporter
from loopscope_exporters.prometheus import PrometheusExporter

FAULT_LIMIT = 4
OFTEN = [
    (Loop, "backward_began", "probe.backward"),
    (Clock, "backward_ended", "probe.backward"),
    (LossSum, "add", "probe.backward"),
    (Loop, "gradients_unscaled", "probe.backward"),
    (Loop, "gradients_clipped", "probe.clipping"),
    (Loop, "batch_requested", "probe.loader"),
    (Loop, "step_began", "probe.optimizers"),
    (Loop, "gradients_final", "probe.optimizers"),
    (Loop, "step_ended", "probe.optimizers"),
    (Loop, "gradients_zeroing", "probe.optimizers"),
    (GradientReader, "read", "probe.optimizers"),
    (Ring, "acquire", "probe.optimizers"),
    (Slot, "commit", "probe.optimizers"),
    (Assembler, "report", "readback"),
    (Slot, "read", "readback"),
    (NonfiniteGradient, "see", "detector.nonfinite_gradient"),
    (NonfiniteLoss, "see", "detector.nonfinite_loss"),
    (EpochAggregator, "add", "epochs"),
    (JsonlExporter, "export", "exporter.jsonl"),
    (JsonlExporter, "flush", "exporter.jsonl"),
    (LogExporter, "export", "exporter.log"),
    (LogExporter, "flush", "exporter.log"),
    (PrometheusExporter, "export", "exporter.prometheus"),
    (PrometheusExporter, "flush", "exporter.prometheus"),
    (LiveExporter, "export", "exporter.live"),
    (LiveExporter, "flush", "exporter.live"),
]
SELDOM = [
    (Loop, "step_skipped", "probe.optimizers"),
    (Loop, "end", "loop"),
    (SampleReader, "before_update", "probe.optimizers"),
    (SampleReader, "after_update", "probe.optimizers"),
    (EpochAggregator, "end_epoch", "epochs"),
    (EpochAggregator, "end_run", "epochs"),
    (Agent, "_report_self", "self_report"),
    (Pipeline, "tick", "worker"),
    (Pipeline, "close", "worker"),
    (JsonlExporter, "close", "exporter.jsonl"),
    (LogExporter, "close", "exporter.log"),
    (BackwardProbe, "install", "probe.backward"),
    (ClippingProbe, "install", "probe.clipping"),
    (LoaderProbe, "install", "probe.loader"),
    (OptimizerProbe, "install", "probe.optimizers"),
    (LoaderProbe, "remove", "probe.loader"),
]
IDS = [f"{owner.__name__}.{name}" for owner, name, _ in OFTEN + SELDOM]


class Run:
    """A loop that has everything a probe looks at: a loader, a scaler that skips, clipping, zero_grad."""

    def __init__(self) -> None:
        self.model = network()
        self.optimizer = SGD(self.model.parameters(), 0.05, momentum=0.9)
        self.scaler = torch.amp.GradScaler("cpu", init_scale=64.0)
        self.num_steps = 0

    def epoch(self) -> None:
        """Train on six batches."""
        for inputs in DataLoader(samples(12), batch_size=2):
            self.step(inputs)

    def step(self, inputs) -> None:
        """Train on a batch; the fourth of all overflows."""
        self.optimizer.zero_grad()
        loss = self.model(inputs).square().mean() * (float("inf") if self.num_steps == 3 else 1.0)
        self.scaler.scale(loss).backward()
        self.scaler.unscale_(self.optimizer)
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 0.1)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.num_steps += 1


@pytest.fixture(scope="module")
def bare_weights() -> torch.Tensor:
    """The weights that two epochs lead to, without an agent."""
    run = Run()
    run.epoch()
    run.epoch()
    return weights(run.model)


def fail(*args, **kwargs):
    """Be a fault of ours."""
    raise RuntimeError("planted")


def train(watched, run: Run) -> None:
    """Train for two epochs, flushing after each."""
    for _ in range(2):
        run.epoch()
        watched.agent.flush(10)


@pytest.mark.parametrize(("owner", "name", "part"), OFTEN + SELDOM, ids=IDS)
def test_training_is_not_hurt(owner, name, part, bare_weights, monkeypatch, tmp_path):
    """A fault in any part is counted, and training ends with the same weights; all else goes on until detach."""
    run = Run()
    monkeypatch.setattr(owner, name, fail)

    with watch(run.model, run.optimizer, strict=False, port=0, log_events=True, jsonl=str(tmp_path / "log")) as watched:
        train(watched, run)

    assert torch.equal(weights(run.model), bare_weights)
    assert watched.agent.internal_errors[part] >= 1
    assert set(watched.agent.internal_errors) == {part}


@pytest.mark.parametrize(("owner", "name", "part"), OFTEN, ids=IDS[: len(OFTEN)])
def test_part_that_keeps_failing_switches_itself_off(owner, name, part, bare_weights, monkeypatch, tmp_path):
    """After `fault_limit` faults a part is left out, and one event says so, by detach at the latest."""
    run = Run()
    monkeypatch.setattr(owner, name, fail)

    with watch(
        run.model,
        run.optimizer,
        strict=False,
        fault_limit=FAULT_LIMIT,
        port=0,
        log_events=True,
        jsonl=str(tmp_path / "log"),
    ) as watched:
        for _ in range(4):
            train(watched, run)

    events = [event for event in watched.memory.events if event.kind == "probe_disabled"]
    assert [event.attributes["part"] for event in events] == [part]
    assert watched.memory.latest_self.disabled_parts == (part,)
    assert watched.memory.latest_self.internal_errors[part] == watched.agent.internal_errors[part] >= FAULT_LIMIT


@pytest.mark.parametrize(("owner", "name"), [(Loop, "backward_began"), (BackwardProbe, "_scale_of"), (LossSum, "add")])
def test_what_a_failing_probe_does_not_see_is_absent(owner, name, monkeypatch):
    """Steps whose backward was not seen are counted; their loss is unknown, not that of an earlier step."""
    run = Run()
    with watch(run.model, run.optimizer, strict=False, fault_limit=FAULT_LIMIT) as watched:
        run.epoch()
        assert watched.agent.flush()
        monkeypatch.setattr(owner, name, fail)
        run.epoch()

        later = watched.reports[6:]
        assert [report.step for report in later] == list(range(5, 11))
        assert {report.loss for report in later} == {None}
        assert all(report.gradients.global_norm > 0 for report in later)


@pytest.mark.parametrize("name", ["step_began", "gradients_final", "step_ended"])
def test_step_that_was_not_seen_was_not_skipped(name, monkeypatch):
    """Under a GradScaler a step whose hooks failed is not taken for one that the scaler left out."""
    run = Run()
    monkeypatch.setattr(Loop, name, fail)

    with watch(run.model, run.optimizer, strict=False, fault_limit=1_000) as watched:
        run.epoch()

        assert sum(report.num_skipped.get("grad_scaler", 0) for report in watched.reports) == 1


@pytest.mark.parametrize(("owner", "name"), [(Loop, "backward_began"), (Clock, "backward_ended"), (Loop, "step_began")])
def test_single_fault_costs_a_single_step(owner, name, monkeypatch):
    """After a fault that does not come back reports are whole again."""
    run = Run()
    with watch(run.model, run.optimizer, strict=False) as watched:
        with monkeypatch.context() as planted:
            planted.setattr(owner, name, fail)
            run.step(samples(2)[0])
        run.epoch()

        last = watched.reports[-1]
        assert (last.micro_steps, last.skipped, last.loss is None) == (1, None, False)
        assert watched.agent.internal_errors.keys() <= {"probe.backward", "probe.optimizers"}


def test_faults_are_on_the_page(monkeypatch):
    """The page shows the number of faults by part, and how many parts are off."""
    run = Run()
    monkeypatch.setattr(Loop, "gradients_clipped", fail)

    with watch(run.model, run.optimizer, strict=False, fault_limit=FAULT_LIMIT, port=0) as watched:
        train(watched, run)
        page = wait_until(
            lambda: _page_with(watched, 'loopscope_internal_errors_total{agent="model",part="probe.clipping"} 4.0')
        )

    assert 'loopscope_disabled_parts{agent="model"} 1.0' in page
    assert 'loopscope_anomalies_total{agent="model",kind="probe_disabled"} 1.0' in page


def _page_with(watched, line: str) -> str | None:
    page = request(f"{watched.agent.url}/metrics").text
    return page if line in page else None


def test_full_disk(bare_weights, monkeypatch, tmp_path):
    """A disk that is full is a fault of the log alone; what was kept is written when there is room again."""
    run, write, log = Run(), os.write, tmp_path / "log"

    def write_to_full_disk(descriptor: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with watch(run.model, run.optimizer, strict=False, jsonl=str(log)) as watched:
        monkeypatch.setattr(rotating.os, "write", write_to_full_disk)
        run.epoch()
        assert len(watched.reports) == 6
        assert watched.agent.internal_errors["exporter.jsonl"] >= 1
        monkeypatch.setattr(rotating.os, "write", write)
        run.epoch()

    assert torch.equal(weights(run.model), bare_weights)
    assert log.read_text().count('"type":"step"') == 12


def test_taken_port(bare_weights):
    """A port that is taken gives way to another, and nothing is wrong with the run."""
    run = Run()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with watch(run.model, run.optimizer, port=port) as watched:
            assert watched.agent.url not in {None, f"http://127.0.0.1:{port}"}
            train(watched, run)
            assert request(f"{watched.agent.url}/healthz").status == 200

    assert torch.equal(weights(run.model), bare_weights)
    assert watched.agent.internal_errors == {}


def test_scrapes_during_detach(bare_weights):
    """Scrapes under way at detach are answered or cut off; neither they nor the run fail of ours."""
    run, is_over, statuses = Run(), threading.Event(), []

    def scrape(url: str) -> None:
        while not is_over.is_set():
            try:
                statuses.append(request(f"{url}/metrics").status)
            except OSError:
                return

    with watch(run.model, run.optimizer, port=0) as watched:
        threads = [threading.Thread(target=scrape, args=(watched.agent.url,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        train(watched, run)
    is_over.set()
    for thread in threads:
        thread.join(10)

    assert torch.equal(weights(run.model), bare_weights)
    assert set(statuses) == {200}
    assert watched.agent.internal_errors == {}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_worker_that_dies(bare_weights, monkeypatch):
    """A worker that something ends from outside is counted and replaced; the steps after it are reported."""
    run = Run()
    with watch(run.model, run.optimizer, strict=False) as watched:
        with monkeypatch.context() as planted:
            planted.setattr(Pipeline, "tick", lambda self: (_ for _ in ()).throw(SystemExit()))
            run.epoch()
            watched.agent.flush(5)
            wait_until(lambda: watched.agent.internal_errors.get("worker"))
        run.epoch()

        assert watched.reports[-1].step == 10
    assert torch.equal(weights(run.model), bare_weights)
    assert MemoryExporter.name == "memory"
