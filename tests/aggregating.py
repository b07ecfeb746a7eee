"""Steps made up for epochs and windows, and the reports that an aggregator makes of them.

Shape legend: N steps, G layers.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
from tests.builders import gradient_table, step_report

from loopscope.epochs import EpochAggregator
from loopscope.records import EpochReport, LayerStatistics, StepReport

__all__ = ["INF", "LAYERS", "NAN", "epoch_of", "layers_of", "random_norms", "steps_of", "windows_of"]

LAYERS = ("stem", "body", "head")
NAN, INF = math.nan, math.inf


def random_norms(num_steps: int, seed: int = 0) -> npt.NDArray[np.float64]:
    """Return log-normal norms [num_steps, G]."""
    return np.random.default_rng(seed).lognormal(size=(num_steps, len(LAYERS)))


def steps_of(norms_NG: npt.NDArray[np.float64], **changes: Any) -> list[StepReport]:
    """Return a step a row, one parameter a layer."""
    return [
        step_report(step, gradients=gradient_table(row, layers=LAYERS), **changes) for step, row in enumerate(norms_NG)
    ]


def epoch_of(reports: list[StepReport], window_steps: int = 1_000_000) -> EpochReport:
    """Return the epoch that has these steps and no others."""
    aggregator = EpochAggregator(window_steps)
    for report in reports:
        aggregator.add(report)
    epoch = aggregator.end_epoch(123.0, 7)
    assert epoch is not None
    return epoch


def windows_of(reports: list[StepReport], window_steps: int) -> list[EpochReport]:
    """Return the windows that are complete after these steps."""
    aggregator = EpochAggregator(window_steps)
    return [window for report in reports if (window := aggregator.add(report)) is not None]


def layers_of(report: EpochReport) -> LayerStatistics:
    """Return the statistics of the layers, which have to be there."""
    assert report.gradients is not None
    return report.gradients
