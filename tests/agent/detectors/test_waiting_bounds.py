"""Laws of bounds that wait to be worked out: what is told is what bounds taken anew at every block's end would tell."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from tests.builders import step_report
from tests.detecting import see
from tests.wild_runs import wild_norms, wild_run

from loopscope.config import Config
from loopscope.detectors import baseline, default_detectors, loss_bounds
from loopscope.detectors.baseline import Baseline
from loopscope.protocols import Detector
from loopscope.records import Event

KINDS = {
    "exploding_gradient",
    "gradient_spike",
    "loss_spike",
    "loss_diverging",
    "loss_plateau",
    "step_time_outlier",
}


def families(*rules: str) -> list[Detector]:
    """Return the detectors that let their bounds wait."""
    detectors = default_detectors(Config(rules=rules))
    return [each for each in detectors if each.name in ("gradient_growth", "loss_course", "step_time_outlier")]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("seed", range(24))
def test_a_norm_is_above_its_bound_or_not_as_if_bounds_never_waited(seed):
    """Bounds, where they are looked at, are those of the last block's end to rounding."""
    waiting, prompt = (Baseline(3, None, None) for _ in range(2))
    num_above = 0
    for norms in wild_norms(seed):
        rows = [waiting.next_row(), prompt.next_row()]
        for row in rows:
            row[:] = norms
        is_above = waiting.is_above(rows[0])
        assert prompt.is_above(rows[1]) == is_above
        if is_above:
            num_above += 1
            np.testing.assert_allclose(waiting.bound_C, prompt.bound_C, rtol=1e-9)
            for row in rows:
                np.minimum(row, prompt.bound_C, out=row)
        for each in (waiting, prompt):
            each.take_row()
        prompt.renew()
    assert num_above > 0


RULES = [
    (),
    ("loss_spike=off", "gradient_spike=off"),
    ("loss_diverging=off", "exploding_gradient=off"),
    ("loss_spike.first_ratio=8", "loss_spike.max_ratio=0.5", "gradient_spike.max_ratio=0.5", "gradient_spike.ratio=3"),
    ("exploding_gradient.ratio=2", "exploding_gradient.rise_per_100_steps=1.5", "loss_diverging.ratio=1.5"),
]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("rules", RULES)
def test_events_are_those_of_bounds_that_never_wait(rules, monkeypatch):
    """Every event of the families that let their bounds wait, its message and threshold included."""
    runs = list(map(wild_run, range(36)))
    told = []
    for is_prompt in (False, True):
        if is_prompt:
            monkeypatch.setattr(baseline, "_MAX_STALE_BLOCKS", 1)
            monkeypatch.setattr(loss_bounds, "_MAX_STALE_BLOCKS", 1)
        found = [event for reports in runs for each in families(*rules) for event in see(each, reports)]
        told.append([_rounded(event) for event in found])
    assert told[0] == told[1]
    assert {event.kind for event in told[0]} == KINDS - {rule.removesuffix("=off") for rule in rules}


def _rounded(event: Event) -> Event:
    attributes = {name: _round(value) for name, value in event.attributes.items()}
    numbers = {"threshold": _round(event.threshold), "value": _round(event.value)}
    return dataclasses.replace(event, attributes=attributes, **numbers)


def _round(value: object) -> object:
    return float(f"{value:.9g}") if isinstance(value, float) else value


def test_a_second_optimizer_makes_no_first_one_diverge():
    """The bound of a divergence rises with the second optimizer, and judges the first one's losses too."""
    reports = []
    for step in range(120):
        loss = 2.0 if step < 75 else 13.0 + 0.1 * step
        reports.append(step_report(step, loss=loss + 0.01 * (step % 3), optimizer="generator"))
        if step >= 65:
            reports.append(step_report(step, loss=1.0 + 0.01 * (step % 3), optimizer="critic"))
    for detector in families("loss_spike=off"):
        assert [event.kind for event in see(detector, reports) if event.severity != "info"] == []


@pytest.mark.parametrize("level", [0.0, -1.0])
def test_a_loss_that_began_constant_can_diverge(level):
    """Ten equal losses of zero or less have no spread to judge by; those after them have."""
    draw = np.random.default_rng(0)
    values = [*[level] * 10, *draw.normal(level, 0.1, 140), *[level + 1_000.0 + step for step in range(20)]]
    reports = [step_report(step, loss=float(loss)) for step, loss in enumerate(values)]

    found = [event for each in families() for event in see(each, reports) if event.severity != "info"]

    assert [event.kind for event in found] == ["loss_diverging"]
    assert 150 <= found[0].step < 162


def test_an_outlier_is_judged_by_the_64_steps_before_its_block():
    """The bound, against a median of numpy's: long steps before a block's end count, those after it do not yet."""
    draw = np.random.default_rng(0)
    durations = np.exp(draw.normal(-3.0, 0.2, 400))
    durations[[100, 207, 303]] = 5.0
    (detector,) = (each for each in default_detectors() if each.name == "step_time_outlier")
    reports = [step_report(step, duration_seconds=float(seconds)) for step, seconds in enumerate(durations)]

    events = see(detector, reports)

    assert [event.step for event in events] == [100, 207, 303]
    kept = durations.copy()
    for event in events:
        window = kept[max(event.step // 16 * 16 - 64, 0) : event.step // 16 * 16]
        median = np.sort(window)[len(window) // 2]
        sigma = 1.4826 * np.sort(np.abs(window - median))[len(window) // 2]
        assert event.threshold == pytest.approx(median + max(10 * sigma, 2 * median, 0.05))
        kept[event.step] = event.threshold
