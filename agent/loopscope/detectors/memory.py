"""Memory that grows with every step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..records import Event, StepReport
from .incidents import Incidents, Severity, event
from .stretches import Skimming, Stretch

if TYPE_CHECKING:
    from ..records import EpochReport, Floats, SelfReport

__all__ = ["MemoryCreep", "MemoryCreepRule"]

_MAX_LOOKS = 48
"""Looks that are kept; when there are more every second one goes, so that they always span the whole run."""
_MIN_LOOKS = 12
_MIN_PACE = 0.8
"""Growth a step of the second half of the run over that of the quarter before it: caches and pools that fill slow down,
as a root (0.7) or a logarithm (0.5) does.
"""
_CALM_LOOKS_TO_CLOSE = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryCreepRule:
    """Bounds of `memory_creep`."""

    growth_bytes: float = 32e6
    """Growth over the second half of the run so far, below which nothing is said: a data loader's workers, a
    compilation or a plot take as much once.
    """
    correlation: float = 0.98
    """Of memory with the step: what is taken once makes a stair, and stairs of few steps stay below 0.97."""
    rising_share: float = 0.8
    """Share of the looks at which there is more than at the one before."""
    warmup_steps: float = 10
    """Steps left out: the first ones allocate buffers, optimizer states and workspaces."""


class MemoryCreep(Skimming):
    """Reports resident memory that grows steadily with the steps; looked at once a batch of reports.

    Memory: 48 looks.
    """

    name = "memory_creep"

    def __init__(self, rule: MemoryCreepRule) -> None:
        self._rule = rule
        self.incidents = Incidents()
        self._incident = self.incidents.new(self.name, None, _CALM_LOOKS_TO_CLOSE)
        self._looks: list[tuple[int, int, int]] = []
        """Steps of all optimizers up to then, step of the report, bytes."""
        self._stride, self._num_looks, self._num_steps = 1, 0, 0

    def see(self, report: StepReport | EpochReport | SelfReport) -> tuple[Event, ...]:
        """Return the incident that this step opens."""
        if not isinstance(report, StepReport):
            return ()
        self._num_steps += report.num_steps
        if report.memory_bytes is None or self._num_steps <= self._rule.warmup_steps:
            return ()
        self._num_looks += 1
        if self._num_looks % self._stride:
            return ()
        self._looks.append((self._num_steps, report.step, report.memory_bytes))
        if len(self._looks) > _MAX_LOOKS:
            self._looks = self._looks[::2]
            self._stride *= 2
        looks = np.array(self._looks, dtype=np.float64)
        half = looks[len(looks) // 2 :]
        if len(half) < _MIN_LOOKS or not _creeps(looks, half, self._rule):
            self._incident.see_calm()
            return ()
        if not self._incident.see(Severity.WARNING, report.step):
            return ()
        return (_event(report, half, self._rule),)

    def skim(self, stretch: Stretch, begin: int) -> int:
        """Count steps: at none of them the memory was read."""
        self._num_steps += len(stretch) - begin
        return len(stretch) - begin


def _creeps(looks: Floats, half: Floats, rule: MemoryCreepRule) -> bool:
    steps, _, sizes = half.T
    if sizes[-1] - sizes[0] < rule.growth_bytes or steps[-1] == steps[0]:
        return False
    is_steady = _pace(half) >= _MIN_PACE * _pace(looks[len(looks) // 4 : len(looks) // 2 + 1])
    is_rising = np.mean(np.diff(sizes) > 0) >= rule.rising_share
    return bool(is_steady and is_rising and np.corrcoef(steps, sizes)[0, 1] >= rule.correlation)


def _pace(looks: Floats) -> float:
    """Return the growth a step between the first and the last look."""
    return float((looks[-1, 2] - looks[0, 2]) / max(looks[-1, 0] - looks[0, 0], 1))


def _event(report: StepReport, looks: Floats, rule: MemoryCreepRule) -> Event:
    (first_step, since_step, before), (last_step, _, now) = looks[0], looks[-1]
    a_step = (now - before) / (last_step - first_step)
    return event(
        report,
        "memory_creep",
        Severity.WARNING,
        f"The process grows by {a_step / 2**20:.3g} MiB with every step, and has reached {now / 2**20:,.0f} MiB.",
        "Look for what is kept from step to step: losses or outputs in a list without .detach() or .item() keep their "
        "whole graph, hooks that append, datasets that cache. A buffer that is meant to fill is no fault.",
        value=float(a_step),
        threshold=rule.growth_bytes / max(last_step - first_step, 1),
        attributes={"memory_bytes": int(now), "since_step": int(since_step)},
    )
