"""Laws of the exponential histogram: every value is in the bucket that OTLP's own definition gives it."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from tests import builders

from loopscope.records import EXPONENT_HIGH, EXPONENT_LOW, NUM_EXPONENT_BINS
from loopscope_exporters.otlp.exponential import MAX_BUCKETS, MAX_SCALE, ExponentialHistogram

RANDOM = np.random.default_rng(7)
VALUES = [
    *(float(2.0**exponent) for exponent in (-30, -7, -1, 0, 1, 9)),
    *(math.nextafter(2.0**exponent, way) for exponent in (-5, 0, 3) for way in (0.0, math.inf)),
    *np.exp(RANDOM.normal(-3, 4, 40)).tolist(),
    5e-324,
    1e-310,
    1.7e308,
]


def is_in_bucket(value: float, index: int, scale: int) -> bool:
    """Whether base**index < value <= base**(index + 1), in whole numbers: all sides to the power of 2**scale."""
    power = Fraction(value) ** (2**scale)
    return Fraction(2) ** index < power <= Fraction(2) ** (index + 1)


@pytest.mark.parametrize("value", [value for value in VALUES if 1e-9 < value < 1e9])
@pytest.mark.parametrize("scale", [0, 1, 3, 5])
def test_bucket_of_a_value(value, scale):
    """A value lies above its bucket's lower bound, and at or below its upper one."""
    histogram = ExponentialHistogram(scale)
    histogram.add(value)

    assert histogram.bucket_counts == [1]
    assert is_in_bucket(value, histogram.offset, scale)


@pytest.mark.parametrize("num_values", [1, 2, 10, 1_000])
def test_all_values_are_counted(num_values):
    """Count, sum, least and greatest are those of the values, in at most MAX_BUCKETS buckets, however far apart."""
    values = np.exp(np.random.default_rng(num_values).uniform(-300, 300, num_values))
    histogram = ExponentialHistogram()
    for value in values.tolist():
        histogram.add(value)

    assert histogram.count == num_values == sum(histogram.bucket_counts)
    assert histogram.sum == pytest.approx(values.sum())
    assert (histogram.min, histogram.max) == (values.min(), values.max())
    assert len(histogram.bucket_counts) <= MAX_BUCKETS


def test_scale_is_as_fine_as_it_can_be():
    """The scale falls only as far as the span of the values asks for; Prometheus has none above 8."""
    same, spread = ExponentialHistogram(), ExponentialHistogram()
    for value in (0.1, 0.1001):
        same.add(value)
    for value in (0.001, 1.0):
        spread.add(value)  # ten powers of two: at scale 4 they are 160 buckets

    assert same.scale == MAX_SCALE == 8
    assert spread.scale in {3, 4}


@pytest.mark.parametrize("value", VALUES)
def test_lowering_the_scale_moves_no_value_out_of_its_bucket(value):
    """After joining buckets a value is where it would have been at the lower scale."""
    fine, coarse = ExponentialHistogram(3), ExponentialHistogram(0)
    fine.add(value)
    coarse.add(value)

    assert coarse.merged(fine).bucket_counts == [2]
    assert fine.merged(coarse).offset == coarse.offset


def test_merged_is_as_if_counted_together():
    """Two histograms merged are the histogram of all values; neither of them changes."""
    first, second, both = ExponentialHistogram(), ExponentialHistogram(), ExponentialHistogram()
    for index, value in enumerate(np.exp(RANDOM.normal(0, 3, 200)).tolist()):
        (first, second)[index % 2].add(value)
        both.add(value)

    merged = first.merged(second)

    assert (merged.count, merged.min, merged.max) == (both.count, both.min, both.max)
    assert (merged.scale, merged.offset, merged.bucket_counts) == (both.scale, both.offset, both.bucket_counts)
    assert (first.count, second.count) == (100, 100)


@pytest.mark.parametrize("value", [0.0, -0.25])
def test_zero(value):
    """Zero, and the negative duration of a clock that was set back, are in the bucket of zero."""
    histogram = ExponentialHistogram()
    histogram.add(value)

    assert (histogram.count, histogram.zero_count, histogram.bucket_counts) == (1, 1, [])


def test_sample_of_magnitudes():
    """The bins of a sample are OTLP's buckets at scale 0; what is below them all is in the bucket of zero."""
    bins = np.zeros((2, NUM_EXPONENT_BINS), dtype=np.int64)
    bins[0, 0] = 5  # below 2**-64
    bins[0, 1 - EXPONENT_LOW] = 3  # [1, 2)
    bins[1, 1 - EXPONENT_LOW] = 4
    bins[1, 1 - EXPONENT_LOW - 2] = 2  # [1/4, 1/2)
    bins[1, NUM_EXPONENT_BINS - 1] = 1  # 2**32 and above
    histogram = ExponentialHistogram(0, zero_threshold=2.0**EXPONENT_LOW)
    histogram.add_sample(builders.gradient_sample(histogram_GB=bins, sum_abs=12.5))

    assert histogram.count == 15
    assert histogram.zero_count == 5
    assert histogram.sum == 12.5
    assert histogram.offset == -2
    assert histogram.bucket_counts == [2, 0, 7, *[0] * 31, 1]
    assert histogram.offset + len(histogram.bucket_counts) - 1 == EXPONENT_HIGH
