"""Progress: a loss that no longer falls."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ..records import Event, StepReport
from .incidents import Incident, Severity, event

__all__ = ["PlateauRule", "Progress"]

_BLOCK_STEPS = 100
"""Steps whose mean loss is compared with that of others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlateauRule:
    """Bounds of `loss_plateau`."""

    steps: float = 300
    """Steps without progress. SageMaker's LossNotDecreasing has 10 evaluations."""
    progress: float = 0.01
    """Share of the best mean of 100 steps by which the next best has to be lower."""
    converged: float = 0.01
    """Share of the first level below which there is nothing left to gain."""


class Progress:
    """Whether the mean loss still falls."""

    def __init__(self, rule: PlateauRule, incident: Incident) -> None:
        self._rule, self._incident = rule, incident
        self._sum, self._num_losses, self._num_stale = 0.0, 0, 0
        self._best = math.inf

    def add(self, losses: Sequence[float]) -> None:
        """Take in losses before the last one of a block."""
        for loss in losses:
            self._sum += loss
        self._num_losses += len(losses)

    def see(self, report: StepReport, loss: float, first: float) -> tuple[Event, ...]:
        """Return the incident that this step opens."""
        self._sum += loss
        self._num_losses += 1
        if self._num_losses < _BLOCK_STEPS:
            return ()
        mean, self._sum, self._num_losses = self._sum / self._num_losses, 0.0, 0
        if mean < self._best - self._rule.progress * abs(self._best) or math.isinf(self._best):
            self._best, self._num_stale = mean, 0
            self._incident.close()
            return ()
        self._num_stale += _BLOCK_STEPS
        is_converged = 0 <= self._best < self._rule.converged * abs(first)
        if is_converged or self._num_stale < self._rule.steps:
            return ()
        if not self._incident.see(Severity.INFO, report.step):
            return ()
        return (
            event(
                report,
                "loss_plateau",
                Severity.INFO,
                f"The loss has not fallen for {self._num_stale} steps; its best mean of {_BLOCK_STEPS} steps was "
                f"{self._best:.4g}.",
                "Nothing to do where training has converged; else look at the learning rate and its schedule.",
                value=mean,
                threshold=self._best,
            ),
        )
