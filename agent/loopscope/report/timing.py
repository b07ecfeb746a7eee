"""Where the time of the steps went: durations and phases over the steps, and quantiles over all of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from heapq import heappush, heapreplace

import numpy as np

from .spans import Spans

__all__ = ["PhaseTimes", "SlowStep", "Timing"]

MAX_SPANS = 240
MAX_DURATIONS = 32_768
NUM_SLOWEST = 5


@dataclass(slots=True)
class PhaseTimes:
    """Sums over the steps of a span that know their duration."""

    first_step: int = 0
    last_step: int = -1
    num_steps: int = 0
    seconds: float = 0.0
    phases: Counter[str] = field(default_factory=Counter)

    def add(self, step: int, seconds: float, phases: Mapping[str, float]) -> None:
        """Take in one step."""
        if not self.num_steps:
            self.first_step = step
        self.last_step = step
        self.num_steps += 1
        self.seconds += seconds
        for name, duration in phases.items():
            self.phases[name] += duration  # type: ignore[assignment] # a Counter adds floats as well

    def merge(self, other: PhaseTimes) -> None:
        """Take in a later span."""
        if not self.num_steps:
            self.first_step = other.first_step
        self.last_step = other.last_step
        self.num_steps += other.num_steps
        self.seconds += other.seconds
        self.phases.update(other.phases)


@dataclass(frozen=True, slots=True, order=True)
class SlowStep:
    """One of the slowest steps."""

    seconds: float
    step: int
    phases: Mapping[str, float] = field(compare=False)


class Timing:
    """All steps that know their duration; quantiles are exact up to MAX_DURATIONS, then from an even thinning."""

    def __init__(self) -> None:
        self.spans: Spans[PhaseTimes] = Spans(PhaseTimes, MAX_SPANS)
        self.whole = PhaseTimes()
        self.clock: str | None = None
        self._durations: list[float] = []
        self._stride = 1
        self._slowest: list[SlowStep] = []

    def add(self, step: int, seconds: float, phases: Mapping[str, float], clock: str | None) -> None:
        """Take in one step."""
        if self.whole.num_steps % self._stride == 0:
            self._durations.append(seconds)
            if len(self._durations) > MAX_DURATIONS:
                self._durations, self._stride = self._durations[::2], 2 * self._stride
        self.clock = clock or self.clock
        self.whole.add(step, seconds, phases)
        self.spans.at(step).add(step, seconds, phases)
        if len(self._slowest) < NUM_SLOWEST:
            heappush(self._slowest, SlowStep(seconds, step, phases))
        elif seconds > self._slowest[0].seconds:
            heapreplace(self._slowest, SlowStep(seconds, step, phases))

    @property
    def slowest(self) -> Sequence[SlowStep]:
        """The slowest steps, the slowest first."""
        return sorted(self._slowest, reverse=True)

    @property
    def are_quantiles_exact(self) -> bool:
        """Whether no duration was thinned out."""
        return self._stride == 1

    def quantile(self, share: float) -> float | None:
        """Return the duration that so many of the steps stay below."""
        return float(np.quantile(self._durations, share)) if self._durations else None
