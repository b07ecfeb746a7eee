"""Distributions: step durations and gradient magnitudes of each optimizer as exponential histograms."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial

from loopscope.records import EXPONENT_LOW, StepReport

from ..points import clean
from .exponential import ExponentialHistogram

__all__ = ["DURATION", "MAGNITUDE", "Distributions", "new_distribution"]

DURATION, MAGNITUDE = "loopscope.step.duration", "loopscope.gradient.magnitude"
_EMPTY: dict[str, Callable[[], ExponentialHistogram]] = {
    DURATION: ExponentialHistogram,
    MAGNITUDE: partial(ExponentialHistogram, scale=0, zero_threshold=2.0**EXPONENT_LOW),
}

Key = tuple[str, str | None]
"""Name of the metric, and the optimizer."""


class Distributions:
    """Counts since the start, or with `is_delta` since the last ones that were delivered.

    `add` on the worker thread, `take` and `settle` on another.
    """

    def __init__(self, *, is_delta: bool) -> None:
        self._is_delta = is_delta
        self._lock = threading.Lock()
        self._counting: dict[Key, ExponentialHistogram] = {}
        self._under_way: dict[Key, ExponentialHistogram] = {}

    def add(self, report: StepReport) -> None:
        """Count one step in, as the histograms of the other exporters do."""
        optimizer = None if report.optimizer is None else clean(report.optimizer)
        sample = None if report.gradients is None else report.gradients.sample
        with self._lock:
            if report.skipped is None and report.duration_seconds is not None:
                self._of(DURATION, optimizer).add(report.duration_seconds)
            if sample is not None:
                self._of(MAGNITUDE, optimizer).add_sample(sample)

    def take(self) -> dict[Key, ExponentialHistogram]:
        """Return what is to be sent now."""
        with self._lock:
            if not self._is_delta:
                return {key: counts.copy() for key, counts in self._counting.items()}
            new, self._counting = self._counting, {}
        for key, counts in new.items():
            before = self._under_way.get(key)
            self._under_way[key] = counts if before is None else before.merged(counts)
        return self._under_way

    def settle(self, *, is_delivered: bool) -> None:
        """Say what became of it; what was not delivered is sent again, with what came since."""
        if is_delivered:
            self._under_way = {}

    def _of(self, name: str, optimizer: str | None) -> ExponentialHistogram:
        key = name, optimizer
        if key not in self._counting:
            self._counting[key] = new_distribution(name)
        return self._counting[key]


def new_distribution(name: str) -> ExponentialHistogram:
    """Return the metric's histogram of nothing."""
    return _EMPTY[name]()
