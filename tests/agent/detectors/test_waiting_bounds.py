"""Laws of bounds that wait to be worked out: what is told is what bounds taken anew at every block's end would tell."""

from __future__ import annotations

import numpy as np
import pytest
from tests.builders import step_report
from tests.detecting import noise, reports_of, see

from loopscope.detectors import baseline, default_detectors, losses
from loopscope.detectors.baseline import Baseline
from loopscope.records import StepReport

KINDS = {"exploding_gradient", "gradient_spike", "loss_spike", "loss_diverging", "loss_plateau"}


def families() -> list:
    """Return the detectors that let their bounds wait."""
    return [each for each in default_detectors() if each.name in ("gradient_growth", "loss_course")]


def wild_norms(seed: int) -> np.ndarray:
    """Return norms [N, 3] that drift, jump, vanish and are not there."""
    draw = np.random.default_rng(seed)
    num_steps = int(draw.integers(40, 900))
    norms = noise(num_steps, sigma=float(draw.choice([0.05, 0.3, 1.0, 3.0])), seed=seed)
    norms *= np.exp(np.cumsum(draw.normal(0, draw.choice([0.0, 0.05, 0.3]), norms.shape), axis=0))
    for _ in range(3):
        begin, column = draw.integers(num_steps), draw.integers(3)
        norms[begin : begin + draw.choice([1, 2, 6, 40]), column] *= 10 ** draw.uniform(0.5, 6)
    norms[draw.random(num_steps) < draw.choice([0.0, 0.2]), draw.integers(3)] = np.nan
    norms[draw.integers(num_steps) :, draw.integers(3)] *= draw.choice([0.0, 1.0])
    return norms


def wild_losses(seed: int) -> np.ndarray:
    """Return losses [N] of many kinds, with spikes and rises."""
    draw = np.random.default_rng(seed)
    steps = np.arange(int(draw.integers(40, 900)))
    kinds = [
        2.0 * np.exp(-steps / 300) + 0.01 * draw.random(len(steps)),
        np.exp(draw.normal(0, 1, len(steps))),
        draw.normal(0, 1, len(steps)),
        np.full(len(steps), 0.7),
    ]
    values = kinds[seed % len(kinds)]
    for _ in range(3):
        begin = draw.integers(len(steps))
        values[begin : begin + draw.choice([1, 2, 6, 40])] *= 10 ** draw.uniform(0.2, 4)
    values[draw.integers(len(steps)) :] -= draw.choice([0.0, 1.0])
    return values


def wild_run(seed: int) -> list[StepReport]:
    """Return reports with both."""
    return [
        step_report(report.step, gradients=report.gradients, loss=float(loss))
        for report, loss in zip(reports_of(wild_norms(seed)), wild_losses(seed), strict=False)
    ]


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


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_events_are_those_of_bounds_that_never_wait(monkeypatch):
    """Kind, step, severity, layer and value of every event of the families that let their bounds wait."""
    runs = list(map(wild_run, range(40)))
    told = []
    for num_blocks in (None, 1):
        if num_blocks is not None:
            monkeypatch.setattr(baseline, "_MAX_STALE_BLOCKS", num_blocks)
            monkeypatch.setattr(losses, "_MAX_STALE_BLOCKS", num_blocks)
        told.append(
            [
                (event.kind, event.step, event.severity, event.layer, event.value)
                for reports in runs
                for each in families()
                for event in see(each, reports)
            ]
        )
    assert told[0] == told[1]
    assert {kind for kind, *_ in told[0]} == KINDS


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
