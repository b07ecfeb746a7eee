"""Series of reports made up for detectors, and what the default detectors say of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from tests.builders import gradient_table, run_info, step_report

from loopscope.detectors import default_detectors
from loopscope.guard import Guard
from loopscope.judging import Judge
from loopscope.protocols import Detector
from loopscope.records import Event, StepReport

__all__ = ["LAYERS", "alarms", "noise", "reports_of", "see"]

LAYERS = ("stem", "body", "head")


def see(detector: Detector, reports: Iterable[StepReport]) -> list[Event]:
    """Return what the detector tells of these reports."""
    return [event for report in reports for event in detector.see(report)]


def alarms(reports: Sequence[StepReport]) -> list[Event]:
    """Return the events of warning and above of all default detectors, with their causes, in their order."""
    ranks = {layer: rank for rank, layer in enumerate(next((r.gradients.layers for r in reports if r.gradients), ()))}
    judge = Judge(run_info(layer_ranks=ranks), default_detectors(), Guard(strict=True))
    return [event for report in reports for event in judge.judge(report).events if event.severity != "info"]


def noise(num_steps: int, num_columns: int = 3, *, sigma: float = 0.3, seed: int = 0) -> npt.NDArray[np.float64]:
    """Return log-normal norms [num_steps, num_columns] around 1."""
    return np.exp(np.random.default_rng(seed).normal(0.0, sigma, (num_steps, num_columns)))


def reports_of(norms_NG: npt.NDArray[np.float64], **changes: Any) -> list[StepReport]:
    """Return a report a row, with these norms of the layers `stem`, `body`, `head` (one parameter each)."""
    layers = LAYERS[: norms_NG.shape[1]]
    tables = [gradient_table(row, layers=layers) for row in norms_NG]
    return [step_report(step, **{"gradients": table} | changes) for step, table in enumerate(tables)]
