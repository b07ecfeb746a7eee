"""Gradients that vanish on their way to the first layers.

Shape legend: G layer groups, in the order of the model's parameters.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..records import Event, StepReport
from .incidents import Incident, Incidents, Severity, event
from .stretches import Skimming, Stretch

if TYPE_CHECKING:
    from ..records import EpochReport, Flags, Floats, SelfReport

__all__ = ["VanishingGradient", "VanishingRule"]

_LOOK_STEPS = 5
"""Steps from one look to the next: what lasts for 30 steps need not be measured at each."""
_LOOKS_TO_CLOSE = 6
_CLOSE_FACTOR = 10.0
"""The ratio has to rise to ten times the bound before an incident begins to close."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VanishingRule:
    """Bounds of `vanishing_gradient`."""

    ratio: float = 1e-4
    """Norm of a layer over the largest one of the layers behind it. Healthy networks of all kinds stayed above 1e-3
    (the gate of a mixture of experts), stacks of sigmoids or of narrow tanh layers below 1e-5. SageMaker's
    VanishingGradient takes 1e-7 for the mean magnitude, which a converged or a scaled loss also has.
    """
    steps: float = 30
    """Steps in a row: three times the memory of momentum 0.9, and longer than the start."""


class VanishingGradient(Skimming):
    """Reports layers whose gradients stay far below those of later layers; a small gradient everywhere is none.

    Memory: G float64 an optimizer.
    """

    name = "vanishing_gradient"

    def __init__(self, rule: VanishingRule) -> None:
        self._rule = rule
        self.incidents = Incidents()
        self._tracks: dict[str | None, _Track] = {}

    def see(self, report: StepReport | EpochReport | SelfReport) -> tuple[Event, ...]:
        """Return the incident that this step opens."""
        if not isinstance(report, StepReport) or report.gradients is None or report.skipped is not None:
            return ()
        table = report.gradients
        track = self._tracks.get(report.optimizer)
        if track is None or track.layers != table.layers:
            self.incidents.drop(report.optimizer)
            incident = self.incidents.new(self.name, report.optimizer, _LOOKS_TO_CLOSE)
            track = self._tracks[report.optimizer] = _Track(table.layers, incident)
        track.num_steps += 1
        if track.num_steps % _LOOK_STEPS or len(table.layers) < 2 or not math.isfinite(table.global_norm):
            return ()
        norms = table.layer_norms.tolist()  # host sync: none, numpy
        if track.is_quiet and not _has_low(norms, self._rule.ratio * _CLOSE_FACTOR):
            track.incident.see_calm()
            return ()
        ratio_G = _ratios(table.layer_norms)
        is_low_G = ratio_G < self._rule.ratio
        track.num_looks_G = np.where(is_low_G, track.num_looks_G + 1, 0)
        track.is_quiet = not track.num_looks_G.any()
        is_long_G = track.num_looks_G * _LOOK_STEPS >= self._rule.steps
        if not is_long_G.any():
            if not (ratio_G < self._rule.ratio * _CLOSE_FACTOR).any():
                track.incident.see_calm()
            return ()
        return track.open(report, ratio_G, is_long_G, self._rule)

    def skim(self, stretch: Stretch, begin: int) -> int:
        """Take in steps up to a look that finds a low norm."""
        track, norms_NG = self._tracks.get(stretch.optimizer), stretch.layer_norms_NG[begin:]
        if track is None or track.layers != stretch.table.layers or not track.is_quiet or track.incident.severity:
            return 0
        first = _LOOK_STEPS - 1 - track.num_steps % _LOOK_STEPS
        is_low_L = _have_low(norms_NG[first::_LOOK_STEPS], self._rule.ratio * _CLOSE_FACTOR)
        size = first + _LOOK_STEPS * int(is_low_L.argmax()) if is_low_L.any() else len(norms_NG)
        track.num_steps += size
        return size


class _Track:
    """The layers of one optimizer."""

    def __init__(self, layers: tuple[str, ...], incident: Incident) -> None:
        self.layers, self.num_steps, self.incident = layers, 0, incident
        self.num_looks_G = np.zeros(len(layers), np.int64)
        self.is_quiet = True
        """Whether no layer was low when last looked at."""

    def open(self, report: StepReport, ratio_G: Floats, is_low_G: Flags, rule: VanishingRule) -> tuple[Event, ...]:
        names = [self.layers[index] for index in np.flatnonzero(is_low_G).tolist()]
        if not self.incident.see(Severity.WARNING, report.step, names):
            return ()
        ratio = float(ratio_G[is_low_G][0])
        num_steps = int(self.num_looks_G[is_low_G].max()) * _LOOK_STEPS
        others = f" (and {len(names) - 1} more)" if len(names) > 1 else ""
        return (
            event(
                report,
                "vanishing_gradient",
                Severity.WARNING,
                f"The gradient vanishes on its way back: in layer {names[0]}{others} it is {ratio:.1g} of what later "
                "layers get.",
                "Use ReLU-like activations, residual connections or normalisation, or a wider initialisation.",
                layer=names[0],
                value=ratio,
                threshold=rule.ratio,
                attributes={"layers": names, "since_step": report.step - num_steps + 1},
            ),
        )


def _has_low(norms: Sequence[float], bound: float) -> bool:
    """Whether any of `_ratios` is below `bound`; for the usual look, which finds none, a sixth of the time."""
    largest = 0.0
    for norm in reversed(norms):
        if 0 < norm < bound * largest:
            return True
        largest = max(largest, norm)  # never NaN
    return False


def _have_low(norms_LG: Floats, bound: float) -> Flags:
    """Return [L] the same of L looks."""
    is_low_L = np.zeros(len(norms_LG), np.bool_)
    with np.errstate(over="ignore"):  # as Python's own floats
        highest = bound * np.fmax.reduce(norms_LG, axis=None, initial=0.0)
        if np.fmin.reduce(norms_LG, axis=None, initial=math.inf) < highest:
            largest_LG = np.fmax.accumulate(norms_LG[:, ::-1], axis=1)[:, ::-1]
            is_low_LG = (norms_LG[:, :-1] > 0) & (norms_LG[:, :-1] < bound * largest_LG[:, 1:])
            np.any(is_low_LG, axis=1, out=is_low_L)
    return is_low_L


def _ratios(norms_G: Floats) -> Floats:
    """Return each layer's norm over the largest behind it; NaN for the last, and where it is zero or there is none."""
    largest_G = np.fmax.accumulate(norms_G[::-1])[::-1]
    ratio_G = np.full(len(norms_G), np.nan)
    np.divide(norms_G[:-1], largest_G[1:], out=ratio_G[:-1], where=(norms_G[:-1] > 0) & (largest_G[1:] > 0))
    return ratio_G
