"""Stretches: ordinary steps one behind the other, whose numbers a detector can look at together.

Shape legend: N steps, G layer groups.
"""

from __future__ import annotations

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..records import EpochReport, StepReport

if TYPE_CHECKING:
    from ..records import Floats, GradientTable

__all__ = ["Skimming", "Stretch", "stretches"]

_MIN_STEPS = 4
"""Fewer cost as much together as one by one."""
_MAX_NORMS = 2**18
"""Norms of parameters in a stretch: put together they take 2 MB."""


@dataclass(frozen=True, slots=True, eq=False)
class Stretch:
    """Steps of one optimizer and one set of parameters of which there is nothing to tell but numbers.

    Each is one step that was taken, with a gradient that is finite and not zero; it is not sampled, and has no events,
    hooks or activations, and no reading of memory.
    """

    begin: int
    """Place of the first one in the batch."""
    reports: Sequence[StepReport]
    tables: Sequence[GradientTable]
    layer_norms_NG: Floats

    def __len__(self) -> int:
        """Return the number of steps."""
        return len(self.reports)

    def first(self, is_it: Callable[[StepReport], bool], begin: int) -> int:
        """Return how many steps from `begin` on come before the first one that is it."""
        for size, report in enumerate(self.reports[begin:]):
            if is_it(report):
                return size
        return len(self.reports) - begin

    @property
    def optimizer(self) -> str | None:
        """The optimizer of all."""
        return self.reports[0].optimizer

    @property
    def table(self) -> GradientTable:
        """The first table, whose layers, names, scope and frozen parameters are those of all."""
        return self.tables[0]


class Skimming(ABC):
    """A detector that can take in ordinary steps together."""

    @abstractmethod
    def skim(self, stretch: Stretch, begin: int) -> int:
        """Take in steps of a stretch from its place `begin` on, and return how many.

        It ends before the first step that needs a closer look, by `see`: nothing is to be told of those before it, and
        no incident opens, changes or closes. What is kept of them is what `see` would keep of one after the other. What
        may raise does so before anything is kept: the steps are all seen then.
        """


def stretches(reports: Sequence[StepReport | EpochReport]) -> list[Stretch]:
    """Return the stretches of a batch, in their order."""
    found: list[Stretch] = []
    if len(reports) < _MIN_STEPS:
        return found
    end = 0
    for kind, run in itertools.groupby(map(_kind, reports)):
        begin, end = end, end + sum(1 for _ in run)
        if kind is not None and end - begin >= _MIN_STEPS:
            found += _stretches(begin, reports[begin:end])
    return found


def _kind(report: StepReport | EpochReport) -> tuple[object, ...] | None:
    """Return what the steps of a stretch have in common, None for a step that is not ordinary."""
    if not isinstance(report, StepReport) or report.skipped is not None or report.num_steps != 1:
        return None
    if report.events or report.hooks or report.activations is not None or report.memory_bytes is not None:
        return None
    table = report.gradients
    if table is None or table.sample is not None or table.has_nonfinite or not 0 < table.global_norm < math.inf:
        return None
    return report.optimizer, table.layers, table.names, table.frozen, table.scope


def _stretches(begin: int, reports: Sequence[StepReport | EpochReport]) -> Iterator[Stretch]:
    """Yield a run of steps, in parts where it has many parameters."""
    steps = [report for report in reports if isinstance(report, StepReport)]
    tables = [step.gradients for step in steps if step.gradients is not None]
    size = _MAX_NORMS // max(len(tables[0].names), 1)
    for place in range(0, len(steps), size) if size >= _MIN_STEPS else ():
        part = tables[place : place + size]
        norms_NG = np.concatenate([table.layer_norms for table in part], dtype=np.float64).reshape(len(part), -1)
        yield Stretch(begin + place, steps[place : place + size], part, norms_NG)
