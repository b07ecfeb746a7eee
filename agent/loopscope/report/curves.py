"""A number over the steps: its extremes and its mean in each span, and where it was not finite."""

from __future__ import annotations

import math
from dataclasses import dataclass

from .spans import Spans, groups

__all__ = ["Curve", "Points"]

MAX_SPANS = 1_000


@dataclass(slots=True)
class Points:
    """What is kept of the values of a span; `low` and `high` are those of the finite ones."""

    first_step: int = 0
    last_step: int = -1
    num_finite: int = 0
    num_nonfinite: int = 0
    total: float = 0.0
    low: float = math.inf
    low_step: int = 0
    high: float = -math.inf
    high_step: int = 0

    @property
    def mean(self) -> float:
        """Mean of the finite values, NaN where there is none."""
        return self.total / self.num_finite if self.num_finite else math.nan

    def add(self, step: int, value: float) -> None:
        """Take in one value."""
        if self.last_step < self.first_step:
            self.first_step = step
        self.last_step = step
        if not math.isfinite(value):
            self.num_nonfinite += 1
            return
        self.num_finite += 1
        self.total += value
        if value < self.low:
            self.low, self.low_step = value, step
        if value > self.high:
            self.high, self.high_step = value, step

    def merge(self, other: Points) -> None:
        """Take in a later span."""
        if self.last_step < self.first_step:
            self.first_step = other.first_step
        self.last_step = other.last_step
        self.num_finite += other.num_finite
        self.num_nonfinite += other.num_nonfinite
        self.total += other.total
        if other.low < self.low:
            self.low, self.low_step = other.low, other.low_step
        if other.high > self.high:
            self.high, self.high_step = other.high, other.high_step


class Curve:
    """A value a step, or none; thinned to MAX_SPANS spans, which keep their extremes and what was not finite."""

    def __init__(self) -> None:
        self._spans = Spans(Points, MAX_SPANS)
        self.whole = Points()
        self.first: float | None = None
        self.last: float | None = None
        self.first_nonfinite_step: int | None = None

    def __bool__(self) -> bool:
        """Whether there is any value, a finite one or not."""
        return self.first is not None

    @property
    def steps_a_span(self) -> int:
        """1 as long as nothing was thinned."""
        return self._spans.width

    def add(self, step: int, value: float | None) -> None:
        """Take in the value of a step, None where it is not known."""
        if value is None:
            return
        if self.first is None:
            self.first = value
        self.last = value
        if not math.isfinite(value) and self.first_nonfinite_step is None:
            self.first_nonfinite_step = step
        self.whole.add(step, value)
        self._spans.at(step).add(step, value)

    def spans(self) -> list[Points]:
        """Return all spans in the order of their steps."""
        return self._spans.cells()

    def coarse(self, num_spans: int) -> list[Points]:
        """Return the whole curve in so many spans at the most."""
        return groups(self._spans.cells(), num_spans, Points)
