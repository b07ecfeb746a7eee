"""Budget: how often the dear statistics may be taken so that the loop stays within its overhead budget."""

from __future__ import annotations

import math

__all__ = ["Budget"]

_FLOOR_SECONDS = 100e-6
"""A step may always cost this much: on a step of 0.4 ms one per cent is less than a single torch call."""
_MIN_SHARE = 0.05
"""Share of the budget that samples get even where the statistics of every step use it up, which then exceeds it."""
_SAMPLE_SHARE = 0.5
"""Share of what is left that samples use: costs are estimates, and the budget is a bound."""
_FIRST_INTERVAL = 10
_MAX_INTERVAL = 200
"""However dear a sample is: an epoch of some hundred steps is to have a few."""
_NUM_RECENT = 4
"""Samples whose cheapest counts: the others were disturbed by what else the machine did."""
_MAX_PAUSE = 3.0
_SMOOTHING = 0.05
"""Weight of a new step in the running means: about the last twenty steps count."""


class Budget:
    """Chooses the interval k between sampled steps: mean cost of a sample over what the budget leaves for it.

    Times are in seconds and come in as arguments. The first step is sampled, so that a short run has one.
    """

    def __init__(self, share: float) -> None:
        self._share = share
        self._step_seconds: float | None = None
        self._base_seconds = 0.0
        self._recent_seconds: list[float] = []
        self._elsewhere_seconds = 0.0
        self._last_due: int | None = None
        self._has_sampled = False

    @property
    def interval(self) -> int:
        """Steps from one sample to the next, as the costs seen so far allow."""
        if not self._recent_seconds or self._step_seconds is None:
            return _FIRST_INTERVAL
        allowed = max(self._share * self._step_seconds, _FLOOR_SECONDS)
        left = max(_SAMPLE_SHARE * (allowed - self._base_seconds - self._elsewhere_seconds), _MIN_SHARE * allowed)
        return min(_MAX_INTERVAL, max(1, math.ceil(min(self._recent_seconds) / left)))

    def is_due(self, step: int) -> bool:
        """Whether step number `step` (counted from attach) is to be sampled; asked once a step.

        A sample that came to nothing, as the worker was behind, is not made up for: each step would try in vain.
        """
        is_due = self.will_be_due(step)
        if is_due:
            self._last_due = step
        return is_due

    def will_be_due(self, step: int) -> bool:
        """Whether step number `step` is going to be, as far as is known before it begins; may be asked at any time."""
        return self._last_due is None or step - self._last_due >= self.interval

    def note_step(self, *, step_seconds: float, base_seconds: float) -> None:
        """Take in the duration of a step without us, and what the statistics of every step cost on it.

        A pause (a checkpoint, a notebook) counts as a few steps at the most: it is no reason to sample more often.
        """
        if self._step_seconds is not None:
            step_seconds = min(step_seconds, _MAX_PAUSE * self._step_seconds)
        self._step_seconds = _mean(self._step_seconds, step_seconds)
        self._base_seconds = _mean(self._base_seconds or None, base_seconds)

    def note_elsewhere(self, seconds: float) -> None:
        """Take in what the worker and the server cost a step."""
        self._elsewhere_seconds = seconds

    def note_sample(self, step: int, cost_seconds: float) -> None:
        """Take in what the sample of step number `step` cost beyond that; the first one warms up and is not counted."""
        self._last_due = step
        is_first, self._has_sampled = not self._has_sampled, True
        if not is_first:
            self._recent_seconds = [*self._recent_seconds[1 - _NUM_RECENT :], cost_seconds]


def _mean(running: float | None, value: float) -> float:
    return value if running is None else running + _SMOOTHING * (value - running)
