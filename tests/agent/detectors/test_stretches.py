"""Laws of stretches: steps that a detector skims leave it as they would if it saw them one after the other."""

from __future__ import annotations

import dataclasses
import itertools
import random
from collections import deque
from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np
import pytest
from tests.activation_tables import activation_table
from tests.builders import event, gradient_sample, gradient_table, run_info, step_report
from tests.wild_runs import wild_run

from loopscope.config import Config
from loopscope.detectors import default_detectors
from loopscope.detectors.nonfinite import NonfiniteLoss
from loopscope.detectors.stretches import Skimming, stretches
from loopscope.guard import Guard
from loopscope.judging import BATCH_REPORTS, Judge, Verdict
from loopscope.records import HookCount, HookSilence, StepReport, SyncCount

RULES = [
    (),
    ("dead_layer=off", "loss_spike=off", "gradient_spike=off"),
    ("frozen_layer=off", "loss_diverging=off", "exploding_gradient=off", "loss_plateau=off"),
    ("loss_spike.max_ratio=0.5", "gradient_spike.ratio=3", "vanishing_gradient.ratio=0.1", "loss_plateau.steps=100"),
]


def eventful(seed: int) -> list[StepReport]:
    """Return a wild run in which every kind of report is found that is not an ordinary one."""
    draw, reports = random.Random(seed), []
    for report in itertools.chain(wild_run(seed), wild_run(seed + 100)[:150]):
        changes: dict[str, Any] = {"learning_rates": (0.0 if seed % 5 == 4 and 90 < report.step < 130 else 0.1,)}
        if seed % 4 == 1:
            norm = report.gradients.global_norm
            changes["gradients"] = dataclasses.replace(
                report.gradients, global_norm_pre_clip=norm * draw.choice([1, 3])
            )
        if draw.random() < 0.04:
            sampled = gradient_sample(3, 3, update_ratios_G=np.full(3, 10.0 ** draw.uniform(-9, 0)))
            changes["gradients"] = dataclasses.replace(report.gradients, sample=sampled)
        if seed % 6 == 3 and report.step > 50:
            changes["gradients"] = dataclasses.replace(report.gradients, frozen=(0,))
        if (seed % 4 == 2 and report.step == 0) or draw.random() < 0.04:
            changes |= draw.choice(oddities(report)) if report.step else {"skipped": "manual", "num_steps": 0}
        if seed % 3 == 0 and len(reports) // 90 % 2:
            changes["gradients"] = dataclasses.replace(
                changes.get("gradients", report.gradients) or report.gradients, **other_parameters(draw)
            )
        if seed % 2 and len(reports) > 70 and draw.random() < 0.02:
            changes["loss"] = -abs(report.loss or 1.0)
        if 140 < len(reports) % 200 < 144:
            changes["loss"] = 1e3 * abs(report.loss or 1.0)
        is_dead = 100 < len(reports) % 300 < 135 or draw.random() < 0.03
        if "gradients" not in changes and (is_dead or (seed % 4 == 0 and not reports)):
            dead = report.gradients.norms * ([1.0, 0.0, 1.0] if reports else [0.0, 0.0, 0.0])
            changes["gradients"] = dataclasses.replace(report.gradients, norms=dead, layer_norms=dead)
        reports.append(dataclasses.replace(report, **changes))
    return reports


def other_parameters(draw: random.Random) -> dict[str, Any]:
    """Return what is different where the same optimizer has other parameters, or they are sharded."""
    names = draw.choice(["weight", "bias"])
    return {
        "layers": ("in", "middle", "out") if draw.random() < 0.9 else ("in", "middle", "end"),
        "names": tuple(f"{layer}.{names}" for layer in "abc"),
        "scope": draw.choice(["full", "local_shard"]),
    }


def oddities(report: StepReport) -> list[dict[str, Any]]:
    """Return what makes a report of its own kind of it."""
    step, counts = report.step, np.ones(len(report.gradients.names), np.int64)
    hook = {"where": "body", "hook_kind": "forward", "site": "train.py:3", "function": "hook"}
    silence = HookSilence(**hook, num_looks=9, is_trained=True, is_compiled=False)
    return [
        {"skipped": "grad_scaler", "num_steps": 0, "num_skipped": {"grad_scaler": 1}},
        {"skipped": "manual"},
        {"gradients": None},
        {"gradients": dataclasses.replace(report.gradients, num_nonfinite=counts)},
        *({"gradients": dataclasses.replace(report.gradients, global_norm=norm)} for norm in (0.0, np.inf, np.nan)),
        {"gradients": dataclasses.replace(report.gradients, norms=np.zeros(3), layer_norms=np.zeros(3))},
        {"loss": None},
        {"loss": float("nan")},
        {"loss": float("inf")},
        {"duration_seconds": None},
        {"num_steps": 3},
        {"memory_bytes": 10_000_000 * (step + 1)},
        {"hooks": (HookCount(**hook, count=step), silence)},
        {"events": (event("recompilation", "warning", step, site="train.py:7"),) * 3},
        {"syncs": (SyncCount(kind="item", site="train.py:5", count=9, seconds=0.01),)},
        {"activations": activation_table()},
        {"phases": {"data_wait": 0.9, "forward": 0.1}},
    ]


def at_once(judge: Judge, reports: Sequence[StepReport]) -> list[Verdict]:
    """Judge a batch."""
    verdicts: list[Verdict] = []
    judge.judge_all(reports, [report.events for report in reports], lambda _, verdict: verdicts.append(verdict))
    return verdicts


def state(value: Any) -> Any:
    """Return all that an object keeps, in values that can be compared."""
    if isinstance(value, StepReport):
        return value.step, value.optimizer
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tobytes()
    if isinstance(value, dict):
        return {str(key): state(each) for key, each in value.items()}
    if isinstance(value, list | tuple | deque):
        return [state(each) for each in value]
    if isinstance(value, str | int | float | set | None):
        return repr(value)
    names = [*getattr(value, "__dict__", ()), *(each for kind in type(value).__mro__ for each in slots(kind))]
    return {name: state(getattr(value, name)) for name in names if name != "owner"}


def slots(kind: type) -> Sequence[str]:
    """Return the names of a class's slots."""
    return getattr(kind, "__slots__", ())


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("rules", RULES)
@pytest.mark.parametrize("seed", range(10))
def test_batches_tell_and_keep_what_single_reports_do(seed, rules):
    """Events, health and every number that a detector keeps, to the last bit, whatever comes between."""
    reports, draw = eventful(seed), random.Random(seed)
    config = Config(rules=rules)
    alone, together = (Judge(run_info(), default_detectors(config), Guard(strict=True)) for _ in range(2))
    while reports:
        size = draw.choice([1, 3, 4, 17, BATCH_REPORTS, 100])
        batch, reports = reports[:size], reports[size:]
        one_by_one = [verdict for report in batch for verdict in at_once(alone, [report])]
        assert at_once(together, batch) == one_by_one
        for single, batched in zip(alone._witnesses, together._witnesses, strict=True):
            assert state(batched.detector) == state(single.detector), single.detector.name


def test_every_detector_of_steps_skims_most_of_a_calm_run(monkeypatch):
    """What a law says of stretches is said of something: few steps are left to be seen one by one."""
    detectors = default_detectors()
    seen = dict.fromkeys((detector.name for detector in detectors), 0)
    for detector in detectors:
        monkeypatch.setattr(type(detector), "see", counting(seen, detector.name, type(detector).see))
    judge, draw = Judge(run_info(), detectors, Guard(strict=True)), np.random.default_rng(0)
    reports = [step_report(step, loss=2.0 + 0.1 * draw.random()) for step in range(960)]
    for begin in range(0, 960, BATCH_REPORTS):
        at_once(judge, reports[begin : begin + BATCH_REPORTS])

    skimming = {detector.name for detector in detectors if isinstance(detector, Skimming)}
    assert skimming >= {"gradient_growth", "layer_life", "loss_course", "vanishing_gradient", "update_ratio"}
    assert {name: count for name, count in seen.items() if name in skimming and count > 240} == {}
    assert all(seen[detector.name] == 960 for detector in detectors if detector.name not in skimming)


def counting(seen, name, see):
    """Return a detector's `see`, counted."""

    def counted(self, report):
        seen[name] += 1
        return see(self, report)

    return counted


class Mine(NonfiniteLoss):
    """A detector of somebody's that changes what ours sees."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[int] = []

    def see(self, report):
        """See every report."""
        self.steps.append(report.step)
        return super().see(report)


def test_a_detector_whose_see_is_replaced_sees_all():
    """In a subclass or on the instance: what skims knows nothing of it."""
    mine, patched = Mine(), NonfiniteLoss()
    patched.see = lambda report: [event("custom", "info", report.step)]

    verdicts = at_once(
        Judge(run_info(), [mine, patched], Guard(strict=True)), [step_report(step) for step in range(32)]
    )

    assert mine.steps == list(range(32))
    assert [len(verdict.events) for verdict in verdicts] == [1] * 32


class Faulty(Skimming):
    """A detector of somebody's, whose `skim` and `see` may fail."""

    name = "faulty"

    def __init__(self, skim: Callable[[int], int], bad: Collection[int] = ()) -> None:
        self.steps: list[int] = []
        self.skim_from, self.bad = skim, bad

    def see(self, report):
        """See a report, or fail."""
        if report.step in self.bad:
            raise ValueError(report.step)
        self.steps.append(report.step)
        return ()

    def skim(self, stretch, begin):
        """Skim what was given."""
        size = self.skim_from(begin)
        self.steps += [report.step for report in stretch.reports[begin:][: max(size, 0)]]
        return size


def fail(_: int) -> int:
    """Fail."""
    raise ArithmeticError


@pytest.mark.parametrize("skim", [fail, lambda _: -1, lambda _: 99, lambda _: None], ids=["raises", "-1", "99", "None"])
def test_a_fault_of_skim_is_counted_once_a_stretch(skim):
    """The stretch is seen step by step."""
    faulty, guard = Faulty(skim), Guard()
    at_once(Judge(run_info(), [faulty], guard), [step_report(step) for step in range(32)])

    assert faulty.steps[-32:] == list(range(32))
    assert guard.faults()["detector.faulty"] == 1


@pytest.mark.parametrize("bad", [(7,), (0, 31), (3, 4, 5)])
def test_a_bad_step_costs_as_many_faults_in_a_batch_as_alone(bad):
    """One each, though `skim` fails at it as well; the others are seen."""
    faulty, guard = Faulty(fail, bad), Guard()
    at_once(Judge(run_info(), [faulty], guard), [step_report(step) for step in range(32)])

    assert faulty.steps == [step for step in range(32) if step not in bad]
    assert guard.faults()["detector.faulty"] == len(bad)


def test_reports_that_do_not_go_together_are_seen_one_by_one():
    """What cannot be put into one matrix is no fault of the judge's."""
    faulty, guard = Faulty(lambda _: 0), Guard()
    reports = [step_report(step) for step in range(8)]
    reports[3] = step_report(3, gradients=dataclasses.replace(reports[3].gradients, layer_norms=np.ones(7)))
    reports[5] = step_report(5, gradients=dataclasses.replace(reports[5].gradients, global_norm=None))
    at_once(Judge(run_info(), [faulty], guard), reports)

    assert faulty.steps == list(range(8))
    assert not any(guard.faults().values())


def test_a_stretch_ends_where_steps_are_not_of_one_kind():
    """Another optimizer, or anything of which there is more to tell than numbers: none of it is in a stretch."""
    reports = [step_report(step) for step in range(40)]
    reports[20:22] = [step_report(step, optimizer="critic") for step in (20, 21)]
    kinds = [each for each in oddities(reports[9]) if not each.keys() & {"loss", "duration_seconds", "syncs", "phases"}]
    kinds = [each for each in kinds if each.get("gradients") is None or each["gradients"].layer_norms.any()]
    sampled = dataclasses.replace(reports[9].gradients, sample=gradient_sample(4, 2))
    for changes in [*kinds, {"gradients": sampled}, {"optimizer": "critic"}]:
        reports[9] = step_report(9, **changes)
        assert [(each.begin, len(each)) for each in stretches(reports)] == [(0, 9), (10, 10), (22, 18)], changes
    for name, other in (("frozen", (0,)), ("scope", "local_shard"), ("names", tuple("abcd")), ("layers", ("a", "b"))):
        table = dataclasses.replace(reports[30].gradients, **{name: other})
        changed = [dataclasses.replace(each, gradients=table) for each in reports[30:]]
        found = stretches([*reports[:30], *changed])
        assert [(each.begin, len(each)) for each in found] == [(0, 9), (10, 10), (22, 8), (30, 10)], name
    assert stretches(reports[:3]) == []
    for each in stretches(reports):
        assert each.layer_norms_NG.tolist() == [table.layer_norms.tolist() for table in each.tables]


def test_a_stretch_of_many_parameters_is_cut():
    """So that what is put together stays small; nothing is left out."""
    table = gradient_table(np.ones(30_000))
    reports = [step_report(step, gradients=table) for step in range(20)]

    found = stretches(reports)

    assert [(each.begin, len(each)) for each in found] == [(0, 8), (8, 8), (16, 4)]
    assert [report.step for each in found for report in each.reports] == list(range(20))
