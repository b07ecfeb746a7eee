"""Axes and numbers: round ticks within the axis, and figures that a person reads at a glance."""

from __future__ import annotations

import math

import pytest

from loopscope.report import humanise
from loopscope.report.html.scales import Linear, Logarithmic, step_ticks, value_scale


@pytest.mark.parametrize("low", [0.0, -3.7, 1e-9, 123.0, -1e12])
@pytest.mark.parametrize("width", [1e-6, 0.31, 7.0, 99.0, 1.5e9])
def test_linear_ticks_are_few_and_within(low: float, width: float) -> None:
    """One to six labels, evenly spaced, none beyond the axis."""
    scale = Linear(low, low + width) if low + width > low else Linear(low, low + abs(low))

    ticks = scale.ticks()

    assert 1 <= len(ticks) <= 6
    assert all(-1e-6 <= scale.at(tick) <= 1 + 1e-6 for tick in ticks)


@pytest.mark.parametrize(("low", "high"), [(1e-9, 1e9), (0.9, 30.0), (3.0, 4.0), (1e-300, 1e300), (0.05, 3.0)])
def test_logarithmic_ticks_are_few_and_within(low: float, high: float) -> None:
    """Likewise, and equal ratios are equally far apart."""
    scale = Logarithmic(low, high)

    ticks = scale.ticks()

    assert len(ticks) <= 6
    assert all(0 <= scale.at(tick) <= 1 for tick in ticks)
    assert scale.at((low * high) ** 0.5 if high < 1e200 else 1.0) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([1.0, 19.0], Linear),
        ([1.0, 21.0], Logarithmic),
        ([-1.0, 100.0], Linear),
        ([0.0, 1.0, 100.0], Logarithmic),
        ([0.0, 0.0], Linear),
        ([], Linear),
        ([float("nan"), float("inf")], Linear),
        ([5.0], Linear),
    ],
)
def test_axis_is_logarithmic_where_that_makes_sense(values: list[float], kind: type) -> None:
    """Positive values over more than a factor of twenty; never where some are negative."""
    assert isinstance(value_scale(values), kind)


@pytest.mark.parametrize(("first", "last"), [(0, 0), (0, 1), (0, 269), (99_990, 100_010), (0, 10**7)])
def test_step_ticks_are_whole_steps(first: int, last: int) -> None:
    """Labels are steps of the run."""
    ticks = step_ticks(first, last)

    assert 1 <= len(ticks) <= 6
    assert all(first <= tick <= last for tick in ticks)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (humanise.number(None), "-"),
        (humanise.number(0.0), "0"),
        (humanise.number(0.123456), "0.1235"),
        (humanise.number(1.2345e-7), "1.23e-7"),
        (humanise.number(1234.0), "1,234"),
        (humanise.number(12_345.0), "12.3k"),
        (humanise.number(999_990.0), "1M"),
        (humanise.number(-2.5e12), "-2.5e12"),
        (humanise.number(float("nan")), "NaN"),
        (humanise.number(float("-inf")), "-∞"),
        (humanise.count(99_999), "99,999"),
        (humanise.count(1_234_567), "1.23M"),
        (humanise.seconds(None), "-"),
        (humanise.seconds(0.0), "0 s"),
        (humanise.seconds(2.5e-5), "25 µs"),
        (humanise.seconds(0.0123), "12.3 ms"),
        (humanise.seconds(59.0), "59 s"),
        (humanise.seconds(119.6), "2 min"),
        (humanise.seconds(3_725.0), "1 h 2 min"),
        (humanise.seconds(200_000.0), "2 d 7 h"),
        (humanise.share(0.123), "12.3 %"),
        (humanise.share(0.0001), "< 0.1 %"),
        (humanise.share(1.0), "100 %"),
        (humanise.bytes_(999), "999 B"),
        (humanise.bytes_(420_420_724), "420 MB"),
        (humanise.power(-14), "2⁻¹⁴"),
        (humanise.steps(3, 3), "step 3"),
        (humanise.steps(1_000, 2_000), "steps 1,000 to 2,000"),
    ],
)
def test_numbers_are_read_at_a_glance(text: str, expected: str) -> None:
    """Three or four digits that count, and the unit that suits them."""
    assert text == expected


@pytest.mark.parametrize(
    "values", [[0.0, 5e-324], [-1.7e308, 1.7e308], [5e-324, 1.7e308], [1e16, 1e16 + 2], [1.0, 1.0 + 2**-52]]
)
def test_axis_stands_any_float(values: list[float]) -> None:
    """The smallest and the largest numbers, and ones next to each other, have an axis with a place for each."""
    scale = value_scale(values)

    assert len(scale.ticks()) <= 6
    assert not any(math.isnan(scale.at(value)) for value in values)
