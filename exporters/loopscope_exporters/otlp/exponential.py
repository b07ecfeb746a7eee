"""Exponential histogram: counts by magnitude in buckets whose bounds are powers of one base, as OTLP has them.

Bucket `i` covers (base**i, base**(i + 1)] with base 2**(2**-scale).
https://opentelemetry.io/docs/specs/otel/metrics/data-model/#exponentialhistogram
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable

from loopscope.records import EXPONENT_LOW, GradientSample

__all__ = ["ExponentialHistogram"]

MAX_BUCKETS = 160
MAX_SCALE = 8
"""As fine as Prometheus' native histograms are."""


class ExponentialHistogram:
    """Counts of values from 0 up; the scale is lowered where the values span more than MAX_BUCKETS. Not thread-safe."""

    def __init__(self, scale: int = MAX_SCALE, zero_threshold: float = 0.0) -> None:
        self.scale, self.zero_threshold = scale, zero_threshold
        self.zero_count = 0
        self.sum = 0.0
        self.min, self.max = math.inf, -math.inf
        self._counts: dict[int, int] = {}

    @property
    def count(self) -> int:
        """All values, those in the bucket of zero included."""
        return self.zero_count + sum(self._counts.values())

    @property
    def offset(self) -> int:
        """Index of the first bucket in `bucket_counts`."""
        return min(self._counts, default=0)

    @property
    def bucket_counts(self) -> list[int]:
        """Counts of neighbouring buckets from `offset` on."""
        if not self._counts:
            return []
        return [self._counts.get(index, 0) for index in range(min(self._counts), max(self._counts) + 1)]

    def add(self, value: float) -> None:
        """Count one finite value; a negative one, as of a clock that was set back, counts as 0."""
        value = max(0.0, value)
        self.sum += value
        self.min, self.max = min(self.min, value), max(self.max, value)
        if value <= self.zero_threshold:
            self.zero_count += 1
        else:
            self._count([(_index(value, self.scale), 1)])

    def add_sample(self, sample: GradientSample) -> None:
        """Count the magnitudes of a sample, by the powers of two that it has; scale 0 and 2**LOW as the threshold.

        A magnitude that equals a power of two counts in the bucket above it, where OTLP has it in the one below.
        """
        assert self.scale == 0, "bins are as wide as the buckets of scale 0"
        bins: list[int] = sample.histogram_GB.sum(axis=0).tolist()
        self.zero_count += bins[0]
        self.sum += sample.sum_abs
        self._count((EXPONENT_LOW + index, count) for index, count in enumerate(bins[1:]) if count)

    def merged(self, other: ExponentialHistogram) -> ExponentialHistogram:
        """Return the counts of both."""
        both = self.copy()
        finer = other.copy()
        both._lower(both.scale - other.scale)
        finer._lower(finer.scale - both.scale)
        both.zero_count += other.zero_count
        both.sum += other.sum
        both.min, both.max = min(both.min, other.min), max(both.max, other.max)
        both._count(finer._counts.items())
        return both

    def copy(self) -> ExponentialHistogram:
        """Return the counts as of now."""
        copied = copy.copy(self)
        copied._counts = dict(self._counts)
        return copied

    def _count(self, amounts: Iterable[tuple[int, int]]) -> None:
        scale = self.scale
        for index, amount in amounts:
            place = index >> (scale - self.scale)
            self._counts[place] = self._counts.get(place, 0) + amount
            while max(self._counts) - min(self._counts) >= MAX_BUCKETS:
                self._lower(1)

    def _lower(self, steps: int) -> None:
        """Join neighbours, `steps` times; a negative number does nothing."""
        if steps <= 0:
            return
        self.scale -= steps
        joined: dict[int, int] = {}
        for index, count in self._counts.items():
            joined[index >> steps] = joined.get(index >> steps, 0) + count
        self._counts = joined


def _index(value: float, scale: int) -> int:
    mantissa, exponent = math.frexp(value)
    if mantissa == 0.5:  # a power of two, the upper bound of its bucket at any scale
        return ((exponent - 1) << scale) - 1 if scale >= 0 else (exponent - 2) >> -scale
    if scale <= 0:
        return (exponent - 1) >> -scale
    # Within its power of two, which rounding must not leave: log2 of what lies just below 1 is 0.
    place = min(math.floor(math.log2(2 * mantissa) * (1 << scale)), (1 << scale) - 1)
    return ((exponent - 1) << scale) + place
