"""Laws of learning rates, update ratios and underflow."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from tests.builders import gradient_sample, gradient_table, step_report
from tests.detecting import see

from loopscope.detectors.updates import (
    Underflow,
    UnderflowRule,
    UpdateRatio,
    UpdateRatioRule,
    ZeroLearningRate,
    ZeroLearningRateRule,
)
from loopscope.records import EXPONENT_LOW, NUM_EXPONENT_BINS, Event, StepReport


def _rates(*rates: tuple[float, ...], **changes: Any) -> list[Event]:
    reports = [step_report(step, learning_rates=each, **changes) for step, each in enumerate(rates)]
    return see(ZeroLearningRate(ZeroLearningRateRule()), reports)


def test_zero_rate_is_told_once() -> None:
    """At the twentieth step, and again after it was above zero."""
    events = _rates(*[(0.0, 0.0)] * 50, (0.1, 0.0), *[(0.0, 0.0)] * 50)

    assert [(event.kind, event.step) for event in events] == [("zero_learning_rate", 19), ("zero_learning_rate", 70)]


@pytest.mark.parametrize("rates", [(0.0, 1e-12), (math.nan,), (0.0, math.nan), ()])
def test_other_rates_are_not_zero(rates: tuple[float, ...]) -> None:
    """One group above zero is enough, and what is not known is not zero."""
    assert _rates(*[rates] * 60) == []


def test_schedules_may_touch_zero() -> None:
    """A warm-up from zero and the end of a cosine take a few steps."""
    assert _rates(*[(0.0,)] * 5, *[(0.1,)] * 50, *[(0.0,)] * 10) == []


def test_dropped_steps_have_no_rate_either() -> None:
    """Four reports of five steps are twenty."""
    assert [event.step for event in _rates(*[(0.0,)] * 10, num_steps=5)] == [3]


def _ratios(*ratios: tuple[float, float]) -> list[Event]:
    reports = [
        step_report(
            10 * (i + 2),
            num_steps=10,
            gradients=gradient_table(sample=gradient_sample(update_ratios_G=np.array(ratio))),
        )
        for i, ratio in enumerate(ratios)
    ]
    return see(UpdateRatio(UpdateRatioRule()), [step_report(19, num_steps=20), *reports])


@pytest.mark.parametrize(
    ("ratios", "told"),
    [
        ([(1e-3, 0.1)] * 5, []),
        ([(1e-3, 0.5)] * 5, [("warning", "head")]),
        ([(1e-3, 0.5), (1e-3, 0.1)] * 5, []),
        ([(1e-10, 1e-9)] * 5, [("info", "head")]),
        ([(1e-10, 1e-3)] * 5, []),
        ([(math.nan, math.nan)] * 5, []),
        ([(0.0, 0.0)] * 5, []),
    ],
    ids=["usual", "high", "once", "low", "one low", "not known", "zero"],
)
def test_update_ratio_has_bounds(ratios: list[tuple[float, float]], told: list[tuple[str, str]]) -> None:
    """One layer above 0.2 is too much, all below 1e-8 too little, on two sampled steps in a row, told once."""
    assert [(event.severity, event.layer) for event in _ratios(*ratios)] == told


def test_update_ratio_waits_for_the_warm_up() -> None:
    """Weights that begin at zero have any ratio."""
    table = gradient_table(sample=gradient_sample(update_ratios_G=np.array([9.0, 9.0])))

    assert see(UpdateRatio(UpdateRatioRule()), [step_report(step, gradients=table) for step in range(10)]) == []


def _sampled(num: int = 3, scale: float | None = None, **changes: Any) -> list[StepReport]:
    table = gradient_table(sample=gradient_sample(**changes))
    return [step_report(10 * i, gradients=table, grad_scale=scale) for i in range(num)]


def _histogram(low: int, high: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return 100 magnitudes in each of the binades from 2**low to 2**high, in the first layer."""
    counts_GB = np.zeros((2, NUM_EXPONENT_BINS), dtype=np.int64)
    counts_GB[0, low - EXPONENT_LOW + 1 : high - EXPONENT_LOW + 1] = 100
    return counts_GB


@pytest.mark.parametrize(
    ("reports", "num_told"),
    [
        (_sampled(), 0),
        (_sampled(subnormal_ratio_P=np.array([0.0, 0.0, 0.3, 0.0])), 1),
        (_sampled(1, subnormal_ratio_P=np.array([0.0, 0.0, 0.3, 0.0])), 0),
        (_sampled(subnormal_ratio_P=np.full(4, math.nan)), 0),
        (_sampled(histogram_GB=_histogram(-24, -10)), 1),
        (_sampled(histogram_GB=_histogram(-26, -10)), 0),
        (_sampled(histogram_GB=_histogram(-24, 0)), 0),
        (_sampled(histogram_GB=_histogram(-40, -26), scale=2.0**16), 1),
        (_sampled(histogram_GB=_histogram(-24, -10), scale=2.0**16), 0),
    ],
    ids=["none", "subnormal", "once", "unknown", "cut", "smooth", "large", "scaled and cut", "scaled"],
)
def test_underflow_is_seen_in_samples(reports: list[StepReport], num_told: int) -> None:
    """By subnormal shares, or by magnitudes that end exactly where float16 does, before unscaling."""
    assert [event.kind for event in see(Underflow(UnderflowRule()), reports)] == ["underflow"] * num_told


def test_underflow_names_the_parameter() -> None:
    """The first one, and its layer."""
    (event,) = see(Underflow(UnderflowRule()), _sampled(subnormal_ratio_P=np.array([0.0, 0.0, 0.3, 0.9])))

    assert (event.layer, event.attributes["parameter"], event.value) == ("head", "head.2.weight", 0.3)
