"""Laws of stretches: steps that a detector skims leave it as they would if it saw them one after the other."""

from __future__ import annotations

import dataclasses
import random
from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from tests.activation_tables import activation_table
from tests.builders import event, gradient_sample, run_info, step_report
from tests.wild_runs import wild_run

from loopscope.config import Config
from loopscope.detectors import default_detectors
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
    for report in wild_run(seed):
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
        reports.append(dataclasses.replace(report, **changes))
    return reports


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
@pytest.mark.parametrize("seed", range(12))
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
        if reports and draw.random() < 0.8:
            continue
        for single, batched in zip(alone._witnesses, together._witnesses, strict=True):
            assert state(batched.detector) == state(single.detector), single.detector.name


def test_every_detector_of_steps_skims_most_of_a_calm_run(monkeypatch):
    """What a law says of stretches is said of something: few steps are left to be seen one by one."""
    seen = dict.fromkeys((detector.name for detector in default_detectors()), 0)
    detectors = default_detectors()
    for detector in detectors:
        monkeypatch.setattr(detector, "see", counting(seen, detector))
    judge, draw = Judge(run_info(), detectors, Guard(strict=True)), np.random.default_rng(0)
    reports = [step_report(step, loss=2.0 + 0.1 * draw.random()) for step in range(960)]
    for begin in range(0, 960, BATCH_REPORTS):
        at_once(judge, reports[begin : begin + BATCH_REPORTS])

    skimming = {detector.name for detector in detectors if isinstance(detector, Skimming)}
    assert skimming >= {"gradient_growth", "layer_life", "loss_course", "vanishing_gradient", "update_ratio"}
    assert {name: count for name, count in seen.items() if name in skimming and count > 240} == {}
    assert all(seen[detector.name] == 960 for detector in detectors if detector.name not in skimming)


def counting(seen, detector):
    """Return the detector's `see`, counted."""

    def see(report):
        seen[detector.name] += 1
        return type(detector).see(detector, report)

    return see


def test_a_stretch_ends_where_steps_are_not_of_one_kind():
    """Another optimizer, a skipped step, a sample, a loss of gradients: none of them is in a stretch."""
    reports = [step_report(step) for step in range(40)]
    reports[6] = step_report(6, skipped="manual")
    reports[20] = step_report(20, optimizer="critic")
    reports[30] = step_report(30, gradients=None)

    found = stretches(reports)

    assert [(each.begin, len(each)) for each in found] == [(0, 6), (7, 13), (21, 9), (31, 9)]
    assert stretches(reports[:3]) == []
    for each in found:
        assert each.layer_norms_NG.tolist() == [table.layer_norms.tolist() for table in each.tables]
