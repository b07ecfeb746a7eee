"""Axes: where a value lies between 0 and 1, and which values get a label."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

__all__ = ["Linear", "Logarithmic", "Scale", "step_ticks", "value_scale"]

LOGARITHMIC_FROM_RATIO = 20.0
"""Positive values that span more than this get a logarithmic axis: on a linear one the small ones lie on the floor."""
_MAX_TICKS = 5
_LARGEST = 1e300
"""Beyond it, and below its inverse, the arithmetic of an axis itself would overflow."""


@dataclass(frozen=True, slots=True)
class Linear:
    """An axis from `low` to `high`, with round ticks."""

    low: float
    high: float
    name = "linear axis"

    def at(self, value: float) -> float:
        """Return the place of a value, 0 at the low end and 1 at the high one."""
        return (value - self.low) / (self.high - self.low)

    def ticks(self) -> Sequence[float]:
        """Return round values, at most five."""
        return _round_values(self.low, self.high, _MAX_TICKS)


@dataclass(frozen=True, slots=True)
class Logarithmic:
    """An axis from `low` to `high`, both positive, with ticks at powers of ten."""

    low: float
    high: float
    name = "logarithmic axis"

    def at(self, value: float) -> float:
        """Return the place of a value; what is not positive lies below the axis."""
        if value <= 0:
            return -0.05
        low = math.log(self.low)
        return (math.log(value) - low) / (math.log(self.high) - low)

    def ticks(self) -> Sequence[float]:
        """Return powers of ten, evenly thinned to five, or 1, 2 and 5 of them where there are few."""
        low, high = math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9)
        if high - low < 2:
            values = [factor * 10.0**power for power in range(low - 1, high + 1) for factor in (1, 2, 5)]
            return [value for value in values if self.low <= value <= self.high][:: 1 if high - low < 1 else 2]
        every = -(-(high - low + 1) // _MAX_TICKS)
        return [10.0**power for power in range(low, high + 1, every)]


Scale = Linear | Logarithmic


def value_scale(values: Iterable[float], *, is_linear: bool = False) -> Scale:
    """Return the axis of these values: logarithmic where that makes sense; a single value lies in its middle."""
    finite = [min(max(value, -_LARGEST), _LARGEST) for value in values if math.isfinite(value)]
    low, high = min(finite, default=0.0), max(finite, default=1.0)
    positive = [value for value in finite if value > 0]
    if low >= 0 and positive and not is_linear and high / min(positive) >= LOGARITHMIC_FROM_RATIO:
        return Logarithmic(min(positive) * 0.9, high * 1.1)
    if high - low <= 1 / _LARGEST:
        margin = abs(low) / 2 or 1.0
        return Linear(low - margin, high + margin)
    margin = 0.05 * (high - low)
    return Linear(low - margin, high + margin)


def step_ticks(first: int, last: int) -> Sequence[int]:
    """Return round steps, at most five, within a run."""
    if first == last:
        return [first]
    return sorted({round(value) for value in _round_values(first, last, _MAX_TICKS)})


def _round_values(low: float, high: float, max_values: int) -> list[float]:
    raw = (high - low) / max(max_values - 1, 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    values = [index * step for index in range(first, first + 2 * max_values) if index * step <= high + 1e-9 * step]
    return [0.0 if abs(value) < step * 1e-9 else value for value in values]
