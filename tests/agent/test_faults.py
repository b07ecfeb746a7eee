"""Laws of faults: whatever fails inside of loopscope, training ends with the weights of the bare run."""

from __future__ import annotations

import pytest
import torch
from tests.loops import FullRun, samples, watch, weights
from tests.waiting import wait_until
from tests.web import request

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
from loopscope_exporters.jsonl import JsonlExporter
from loopscope_exporters.live import LiveExporter
from loopscope_exporters.log import LogExporter
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


@pytest.fixture(scope="module")
def bare_weights() -> torch.Tensor:
    """The weights that two epochs lead to, without an agent."""
    return FullRun().train()


def fail(*args, **kwargs):
    """Be a fault of ours."""
    raise RuntimeError("planted")


@pytest.mark.parametrize("plant", OFTEN + SELDOM, ids=IDS)
def test_training_is_not_hurt(plant, bare_weights, monkeypatch, tmp_path):
    """A fault in any part is counted, and training ends with the same weights; all else goes on until detach."""
    owner, name, part = plant
    run = FullRun()
    monkeypatch.setattr(owner, name, fail)

    with watch(run.model, run.optimizer, strict=False, port=0, log_events=True, jsonl=str(tmp_path / "log")) as watched:
        run.train(watched.agent)

    assert torch.equal(weights(run.model), bare_weights)
    assert watched.agent.internal_errors[part] >= 1
    assert set(watched.agent.internal_errors) == {part}


@pytest.mark.parametrize("plant", OFTEN, ids=IDS[: len(OFTEN)])
def test_part_that_keeps_failing_switches_itself_off(plant, monkeypatch, tmp_path):
    """After `fault_limit` faults a part is left out, and one event says so, by detach at the latest."""
    owner, name, part = plant
    run = FullRun()
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
            run.train(watched.agent)

    events = [event for event in watched.memory.events if event.kind == "probe_disabled"]
    assert [event.attributes["part"] for event in events] == [part]
    assert watched.memory.latest_self.disabled_parts == (part,)
    assert watched.memory.latest_self.internal_errors[part] == watched.agent.internal_errors[part] >= FAULT_LIMIT


@pytest.mark.parametrize(("owner", "name"), [(Loop, "backward_began"), (BackwardProbe, "_scale_of"), (LossSum, "add")])
def test_what_a_failing_probe_does_not_see_is_absent(owner, name, monkeypatch):
    """Steps whose backward was not seen are counted; their loss is unknown, not that of an earlier step."""
    run = FullRun()
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
    run = FullRun()
    monkeypatch.setattr(Loop, name, fail)

    with watch(run.model, run.optimizer, strict=False, fault_limit=1_000) as watched:
        run.epoch()

        assert sum(report.num_skipped.get("grad_scaler", 0) for report in watched.reports) == 1


@pytest.mark.parametrize(("owner", "name"), [(Loop, "backward_began"), (Clock, "backward_ended"), (Loop, "step_began")])
def test_single_fault_costs_a_single_step(owner, name, monkeypatch):
    """After a fault that does not come back reports are whole again."""
    run = FullRun()
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
    run = FullRun()
    monkeypatch.setattr(Loop, "gradients_clipped", fail)

    with watch(run.model, run.optimizer, strict=False, fault_limit=FAULT_LIMIT, port=0) as watched:
        run.train(watched.agent)
        page = wait_until(
            lambda: _page_with(watched, 'loopscope_internal_errors_total{agent="model",part="probe.clipping"} 4.0')
        )

    assert 'loopscope_disabled_parts{agent="model"} 1.0' in page
    assert 'loopscope_anomalies_total{agent="model",kind="probe_disabled"} 1.0' in page


def _page_with(watched, line: str) -> str | None:
    page = request(f"{watched.agent.url}/metrics").text
    return page if line in page else None
