"""Curves and times of any length keep their extremes, their means, and what was not finite."""

from __future__ import annotations

import math

import numpy as np
import pytest

from loopscope.report.curves import MAX_SPANS, Curve
from loopscope.report.timing import MAX_DURATIONS, NUM_SLOWEST, Timing


def curve_of(values: list[float | None]) -> Curve:
    """Return a curve with a value a step."""
    curve = Curve()
    for step, value in enumerate(values):
        curve.add(step, value)
    return curve


@pytest.mark.parametrize("number", [1, 999, 1_000, 1_001, 50_000])
def test_thinning_keeps_what_matters(number: int) -> None:
    """A curve of any length has few spans; its extremes, mean and count of non-finite values are those of numpy."""
    rng = np.random.default_rng(number)
    values = rng.normal(size=number)
    values[rng.random(number) < 0.01] = math.nan
    values[number // 2] = math.inf
    values[number // 3] = 1_000.0 if number > 1 else math.inf

    curve = curve_of(values.tolist())

    spans, finite = curve.spans(), values[np.isfinite(values)]
    assert len(spans) <= MAX_SPANS
    assert sum(span.num_nonfinite for span in spans) == curve.whole.num_nonfinite == number - finite.size
    assert sum(span.num_finite for span in spans) == finite.size
    if finite.size:
        assert max(span.high for span in spans) == curve.whole.high == finite.max()
        assert min(span.low for span in spans) == curve.whole.low == finite.min()
        assert values[curve.whole.low_step] == finite.min()
        assert curve.whole.mean == pytest.approx(finite.mean())
    assert curve.first_nonfinite_step == int(np.flatnonzero(~np.isfinite(values))[0])


def test_every_span_has_the_extremes_of_its_own_steps() -> None:
    """The lowest and highest value of each span are those of the steps between its first and last."""
    values = np.random.default_rng(1).normal(size=5_000)

    spans = curve_of(values.tolist()).spans()

    assert [span.low for span in spans] == [values[span.first_step : span.last_step + 1].min() for span in spans]
    assert [span.high for span in spans] == [values[span.first_step : span.last_step + 1].max() for span in spans]


def test_what_is_not_known_is_no_value() -> None:
    """Steps without a loss are left out; a curve of them alone is empty."""
    assert not curve_of([None, None])
    curve = curve_of([None, 2.0, None, 4.0])

    assert (curve.first, curve.last, curve.whole.num_finite) == (2.0, 4.0, 2)


def test_curve_of_nan_alone_is_a_curve() -> None:
    """Losses that were never finite are there, and have no mean."""
    curve = curve_of([math.nan] * 3)

    assert curve
    assert curve.whole.num_nonfinite == 3
    assert math.isnan(curve.whole.mean)


def timing_of(durations: np.ndarray) -> Timing:
    """Return times of steps of two phases, a quarter and three quarters."""
    timing = Timing()
    for step, duration in enumerate(durations.tolist()):
        timing.add(step, duration, {"forward": duration / 4, "backward": 3 * duration / 4}, "host")
    return timing


def test_quantiles_are_those_of_all_steps() -> None:
    """Up to the bound quantiles are exact; sums over the phases always are."""
    durations = np.random.default_rng(0).lognormal(size=10_000)

    timing = timing_of(durations)

    assert timing.are_quantiles_exact
    assert timing.quantile(0.95) == pytest.approx(np.quantile(durations, 0.95))
    assert timing.whole.seconds == pytest.approx(durations.sum())
    assert timing.whole.phases["backward"] == pytest.approx(0.75 * durations.sum())


def test_quantiles_of_very_many_steps_are_near() -> None:
    """Beyond the bound they come from an even thinning, and the slowest steps are still the slowest."""
    durations = np.random.default_rng(0).lognormal(size=3 * MAX_DURATIONS)

    timing = timing_of(durations)

    assert not timing.are_quantiles_exact
    assert timing.quantile(0.5) == pytest.approx(np.quantile(durations, 0.5), rel=0.03)
    slowest = np.argsort(durations)[::-1][:NUM_SLOWEST]
    assert [step.step for step in timing.slowest] == slowest.tolist()
