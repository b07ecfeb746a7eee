"""Columns over a bounded number of spans of steps; where they are full, two neighbours become one.

Shape legend: K steps, U different spans among them, S spans, C columns.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from loopscope.records import Floats, Integers

__all__ = ["MAX_SPANS", "SpanTable", "Spans"]

MAX_SPANS = 512
"""Even: halving makes pairs. As wide as a chart can show, and once thinned never fewer than half of it."""

_REDUCTIONS = {"sum": (np.add, 0.0), "low": (np.fmin, np.nan), "high": (np.fmax, np.nan)}
"""How two spans become one, and what an empty one holds: extremes pass over NaN, sums must not be given any."""


class SpanTable:
    """Values [S, C] under one reduction: `sum`, `low` or `high`."""

    def __init__(self, reduction: Literal["sum", "low", "high"], num_columns: int) -> None:
        self._reduce, self._empty = _REDUCTIONS[reduction]
        self.values_SC: Floats = np.full((MAX_SPANS, num_columns), self._empty)

    def add(self, spans_U: Integers, starts_U: Integers, rows_KC: Floats) -> None:
        """Take in rows in the order of their spans; those of spans_U[i] begin at starts_U[i]."""
        reduced_UC = self._reduce.reduceat(rows_KC, starts_U, axis=0)
        self.values_SC[spans_U] = self._reduce(self.values_SC[spans_U], reduced_UC)

    def halve(self) -> None:
        """Make one span of every two."""
        half = MAX_SPANS // 2
        self.values_SC[:half] = self._reduce(self.values_SC[0::2], self.values_SC[1::2])
        self.values_SC[half:] = self._empty

    def widen(self, num_columns: int) -> None:
        """Add empty columns, up to so many."""
        more = np.full((MAX_SPANS, num_columns - self.values_SC.shape[1]), self._empty)
        self.values_SC = np.hstack([self.values_SC, more])


class Spans:
    """Where steps belong: span i holds the steps from origin + i * width on, `width` of them, a power of two."""

    def __init__(self) -> None:
        self.origin: int | None = None
        self.width = 1
        self.num = 0
        """Spans up to the latest step."""

    def place(self, steps_K: Integers) -> tuple[Integers, int]:
        """Return the spans [K] of steps in their order, and how often all tables have to be halved before.

        A step below the ones before it, as of a loop that goes back, belongs to the span of the latest.
        """
        if self.origin is None:
            self.origin = int(steps_K[0])
        spans_K = np.maximum.accumulate(np.maximum((steps_K - self.origin) // self.width, self.num - 1))
        num_halvings = 0
        while spans_K[-1] >> num_halvings >= MAX_SPANS:
            num_halvings += 1
        self.width <<= num_halvings
        spans_K >>= num_halvings
        self.num = int(spans_K[-1]) + 1
        return spans_K, num_halvings
