"""Gradients that pile up from step to step, as they do where zero_grad was forgotten.

Shape legend: K first steps, C columns (the global norm, then G layer groups).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..records import Event, StepReport
from .incidents import Severity, event
from .stretches import Skimming, Stretch

if TYPE_CHECKING:
    from ..records import EpochReport, Floats, SelfReport

__all__ = ["AccumulatingGradient", "AccumulatingRule"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AccumulatingRule:
    """Bounds of `accumulating_gradient`, on the first steps of a run."""

    steps: float = 16
    """Steps looked at. With a curvature near 1 / learning rate an undamped sum swings back after about as many."""
    early_growth: float = 1.1
    """Norm of the second step over the first: 2 where the two gradients are equal, 1.41 where they are unrelated."""
    growth: float = 3.5
    """Norm of the last of these steps over the first: 16 for equal gradients, 4 for unrelated ones."""
    correlation: float = 0.96
    """Pearson's, of norm and number of steps; sums had 0.97 and more, healthy beginnings seldom 0.95."""
    rising_share: float = 0.8
    """Steps that have a larger norm than the one before: one half where each step has its own gradient."""
    linearity: float = 0.75
    """Norm after a quarter and after half of the steps over the straight line between both ends: 1 for equal gradients,
    more for unrelated ones; 0.7 where the norm grows exponentially by 6, as it does on leaving a saddle.
    """


class AccumulatingGradient(Skimming):
    """Reports once that norms grow about linearly from the very first step on.

    What is judged is the beginning only: later on the weights follow, and the sum swings like an undamped oscillator.
    Memory: `steps` * C float64 an optimizer until then.
    """

    name = "accumulating_gradient"

    def __init__(self, rule: AccumulatingRule) -> None:
        self._rule = rule
        self._beginnings: dict[str | None, _Beginning | None] = {}

    def see(self, report: StepReport | EpochReport | SelfReport) -> tuple[Event, ...]:
        """Return the one event."""
        if not isinstance(report, StepReport) or report.gradients is None:
            return ()
        if self._beginnings.get(report.optimizer, False) is None:
            return ()
        beginning = self._beginnings.setdefault(report.optimizer, None) or _Beginning(report)
        self._beginnings[report.optimizer] = beginning
        if not beginning.add(report):
            self._beginnings[report.optimizer] = None
            return ()
        if len(beginning.rows) < self._rule.steps:
            return ()
        self._beginnings[report.optimizer] = None
        rows_KC = np.array(beginning.rows)
        if not _piles_up(rows_KC, self._rule):
            return ()
        return (_event(report, rows_KC, self._rule),)

    def skim(self, stretch: Stretch, begin: int) -> int:
        """Leave them, once the beginning is judged."""
        return len(stretch) - begin if self._beginnings.get(stretch.optimizer, False) is None else 0


class _Beginning:
    """The first steps of one optimizer."""

    def __init__(self, report: StepReport) -> None:
        self._micro_steps = report.micro_steps
        self.rows: list[Floats] = []

    def add(self, report: StepReport) -> bool:
        """Take in a step; return whether the beginning is still whole and of one kind."""
        table = report.gradients
        assert table is not None
        if report.skipped is not None or report.num_steps > 1 or report.micro_steps != self._micro_steps:
            return False
        if not (math.isfinite(table.global_norm) and table.global_norm > 0):
            return False
        scale = (table.global_norm_pre_clip or table.global_norm) / table.global_norm
        row_C = np.append(table.global_norm, table.layer_norms) * scale
        if self.rows and len(row_C) != len(self.rows[0]):
            return False
        self.rows.append(row_C)
        return True


def _piles_up(rows_KC: Floats, rule: AccumulatingRule) -> bool:
    """Whether the median column grows as a sum does: layers of zero or without gradient do not count."""
    rows_KC = rows_KC[:, (rows_KC > 0).all(axis=0)]
    if not rows_KC.size:
        return False
    quarter, half = len(rows_KC) // 4 - 1, len(rows_KC) // 2 - 1
    steps_K = np.arange(len(rows_KC)) - (len(rows_KC) - 1) / 2
    centred_KC = rows_KC - rows_KC.mean(axis=0)
    spread_C = np.sqrt((steps_K @ steps_K) * (centred_KC**2).sum(axis=0))
    line_C = [rows_KC[step] / _line(rows_KC, step) for step in (quarter, half)]
    measures = (
        (rows_KC[1] / rows_KC[0], rule.early_growth),
        (rows_KC[-1] / rows_KC[0], rule.growth),
        ((steps_K @ centred_KC) / np.maximum(spread_C, np.finfo(float).tiny), rule.correlation),
        ((np.diff(rows_KC, axis=0) > 0).mean(axis=0), rule.rising_share),
        (np.minimum(*line_C), rule.linearity),
    )
    # numpy.median would import numpy.ma for it, which takes 10 ms in the middle of a run
    return all(float(np.quantile(values_C, 0.5)) >= bound for values_C, bound in measures)


def _line(rows_KC: Floats, step: int) -> Floats:
    line_C: Floats = rows_KC[0] + (rows_KC[-1] - rows_KC[0]) * step / (len(rows_KC) - 1)
    return line_C


def _event(report: StepReport, rows_KC: Floats, rule: AccumulatingRule) -> Event:
    growth = float(rows_KC[-1, 0] / rows_KC[0, 0])
    return event(
        report,
        "accumulating_gradient",
        Severity.WARNING,
        f"The gradient's norm has grown about linearly since the first step, {growth:.1f} times in {len(rows_KC)} "
        "steps, as if gradients were never zeroed.",
        "Call optimizer.zero_grad() once a step, before backward.",
        value=growth,
        threshold=rule.growth,
        attributes={"num_steps": len(rows_KC)},
    )
