"""How large the elements of the gradients are, by powers of two, over the sampled steps.

Shape legend: B exponent bins (records.gradients).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ..records import EXPONENT_HIGH, EXPONENT_LOW, NUM_EXPONENT_BINS, Floats
from .humanise import power
from .spans import Spans

__all__ = ["MagnitudeSpan", "Magnitudes", "bin_name"]

MAX_SPANS = 64


@dataclass(slots=True)
class MagnitudeSpan:
    """Elements by exponent over the sampled steps of a span."""

    first_step: int = 0
    last_step: int = -1
    num_sampled_steps: int = 0
    counts_B: Floats = field(default_factory=lambda: np.zeros(NUM_EXPONENT_BINS))

    def add(self, step: int, histogram: list[list[int]]) -> None:
        """Take in the histograms [G][B] of one sampled step."""
        if not self.num_sampled_steps:
            self.first_step = step
        self.last_step = step
        self.num_sampled_steps += 1
        self.counts_B += np.array(histogram, dtype=np.float64).sum(0)

    def merge(self, other: MagnitudeSpan) -> None:
        """Take in a later span."""
        if not self.num_sampled_steps:
            self.first_step = other.first_step
        self.last_step = other.last_step
        self.num_sampled_steps += other.num_sampled_steps
        self.counts_B += other.counts_B

    @property
    def shares(self) -> Floats:
        """[B] share of the elements, zeros and non-finite ones left out; all 0 where there were none."""
        total = self.counts_B.sum()
        return self.counts_B / total if total else self.counts_B


class Magnitudes:
    """The spans over a run."""

    def __init__(self) -> None:
        self._spans: Spans[MagnitudeSpan] = Spans(MagnitudeSpan, MAX_SPANS)

    def __bool__(self) -> bool:
        """Whether any element was counted."""
        return any(span.counts_B.any() for span in self._spans.cells())

    def add(self, step: int, histogram: object) -> None:
        """Take in `layer_histogram` of a sampled step."""
        if isinstance(histogram, list) and histogram and len(histogram[0]) == NUM_EXPONENT_BINS:
            self._spans.at(step).add(step, histogram)

    def spans(self) -> list[MagnitudeSpan]:
        """Return the spans that have a sampled step, in their order."""
        return self._spans.cells()


def bin_name(index: int) -> str:
    """Return the magnitudes that a bin is of."""
    if index == 0:
        return f"below {power(EXPONENT_LOW)}"
    if index == NUM_EXPONENT_BINS - 1:
        return f"{power(EXPONENT_HIGH)} and above"
    return f"{power(EXPONENT_LOW + index - 1)} to {power(EXPONENT_LOW + index)}"
