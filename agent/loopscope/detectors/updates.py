"""Updates: a learning rate of zero, steps too large or too small for the weights, gradients below the dtype's range."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..records import EXPONENT_LOW, Event, StepReport
from .incidents import Incident, Incidents, Severity, event
from .stretches import Skimming, Stretch

if TYPE_CHECKING:
    from ..records import EpochReport, GradientSample, GradientTable, SelfReport

__all__ = ["Underflow", "UnderflowRule", "UpdateRatio", "UpdateRatioRule", "ZeroLearningRate", "ZeroLearningRateRule"]

_SAMPLES_TO_CLOSE = 3
_HALF_SMALLEST, _HALF_NORMAL = -24, -14
"""Exponents of float16's smallest magnitude and of its smallest normal one (IEEE 754 binary16)."""
_EDGE_BINADES, _MIN_EDGE_ELEMENTS, _MIN_EDGE_SHARE = 2, 50, 0.02
"""Magnitudes just above the smallest one that show a cut: a density that does not fall towards zero has a third as many
below it, and none of 17 expected ones by chance once in 10**7.
"""
_MIN_ELEMENTS = 500
"""Sampled elements other than zero below which a share means little: its standard error is 2 % at 500."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ZeroLearningRateRule:
    """Bounds of `zero_learning_rate`."""

    steps: float = 20
    """Steps in a row with a rate of 0 in every group. Schedules touch zero for a step or two at their ends."""


class ZeroLearningRate(Skimming):
    """Reports that steps change nothing, as every learning rate is zero."""

    name = "zero_learning_rate"

    def __init__(self, rule: ZeroLearningRateRule) -> None:
        self._rule = rule
        self.incidents = Incidents()
        self._num_steps: dict[str | None, int] = {}
        self._open: dict[str | None, Incident] = {}

    def see(self, report: StepReport | EpochReport | SelfReport) -> tuple[Event, ...]:
        """Return the incident that this step opens; a rate that is not known (NaN) is not zero."""
        if not isinstance(report, StepReport) or report.skipped is not None:
            return ()
        if any(report.learning_rates) or not report.learning_rates:
            self._num_steps[report.optimizer] = 0
            if report.optimizer in self._open:
                self._open.pop(report.optimizer).close()
            return ()
        before = self._num_steps.get(report.optimizer, 0)
        self._num_steps[report.optimizer] = now = before + report.num_steps
        if not before < self._rule.steps <= now:
            return ()
        incident = self._open[report.optimizer] = self.incidents.new(self.name, report.optimizer, 1)
        incident.see(Severity.WARNING, report.step)
        return (
            event(
                report,
                "zero_learning_rate",
                Severity.WARNING,
                f"The learning rate of every parameter group has been 0 for {now} steps: nothing is learnt.",
                "Look at the scheduler: it may be past its end, or counts in another unit (epochs, steps).",
                value=0.0,
                threshold=0.0,
                attributes={"num_steps": now, "since_step": report.step - now + 1},
            ),
        )

    def skim(self, stretch: Stretch, begin: int) -> int:
        """Take in steps that have a rate."""
        if self._num_steps.get(stretch.optimizer) != 0 or stretch.optimizer in self._open:
            return 0
        return stretch.first(lambda report: not any(report.learning_rates) and bool(report.learning_rates), begin)


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateRatioRule:
    """Bounds of `update_ratio`, the L2 norm of a layer's update over that of its weights."""

    high: float = 0.2
    """A rule of thumb is 1e-3 (Karpathy, CS231n, https://cs231n.github.io/neural-networks-3/#ratio); healthy runs
    reached 0.05. At 0.2 five steps replace the weights. SageMaker's WeightUpdateRatio has 10.
    """
    low: float = 1e-8
    """`info`, where no layer reaches it: float32 resolves 6e-8, so that most of the update is lost; SageMaker has the
    same number.
    """
    samples: float = 2
    """Sampled steps in a row."""
    warmup_steps: float = 10
    """Steps left out: weights that begin at zero have any ratio."""


class UpdateRatio(Skimming):
    """Reports updates that are out of proportion to the weights, on sampled steps."""

    name = "update_ratio"

    def __init__(self, rule: UpdateRatioRule) -> None:
        self._rule = rule
        self.incidents = Incidents()
        self._tracks: dict[str | None, _Samples] = {}

    def see(self, report: StepReport | EpochReport | SelfReport) -> tuple[Event, ...]:
        """Return the incident that this step opens."""
        if not isinstance(report, StepReport) or report.skipped is not None:
            return ()
        track = self._tracks.get(report.optimizer)
        if track is None:
            incident = self.incidents.new(self.name, report.optimizer, _SAMPLES_TO_CLOSE)
            track = self._tracks[report.optimizer] = _Samples(incident)
        track.num_steps += report.num_steps
        table = report.gradients
        if table is None or table.sample is None or track.num_steps <= self._rule.warmup_steps:
            return ()
        ratio_G = table.sample.update_ratios_G
        known = ratio_G[~np.isnan(ratio_G)]
        if not len(known) or not any(report.learning_rates):
            return ()
        is_high, is_low = bool((known > self._rule.high).any()), bool(0 < known.max() < self._rule.low)
        track.num_high, track.num_low = (track.num_high + 1) * is_high, (track.num_low + 1) * is_low
        if not (is_high or is_low):
            track.incident.see_calm()
        if track.num_high >= self._rule.samples:
            first = int(np.flatnonzero(ratio_G > self._rule.high)[0])
            return self._open(report, track, Severity.WARNING, table.layers[first], float(ratio_G[first]))
        if track.num_low >= self._rule.samples:
            first = int(np.nanargmax(ratio_G))
            return self._open(report, track, Severity.INFO, table.layers[first], float(ratio_G[first]))
        return ()

    def skim(self, stretch: Stretch, begin: int) -> int:
        """Count steps: none of them is sampled."""
        track = self._tracks.get(stretch.optimizer)
        if track is None:
            return 0
        track.num_steps += len(stretch) - begin
        return len(stretch) - begin

    def _open(
        self, report: StepReport, track: _Samples, severity: Severity, layer: str, ratio: float
    ) -> tuple[Event, ...]:
        if not track.incident.see(severity, report.step, [layer]):
            return ()
        is_high = severity is Severity.WARNING
        message = f"A step changes the weights of layer {layer} by {ratio:.2g} of their norm; 1e-3 is usual."
        if not is_high:
            message = f"No layer changes by more than {ratio:.2g} of its weights' norm in a step; 1e-3 is usual."
        return (
            event(
                report,
                "update_ratio",
                severity,
                message,
                "Lower the learning rate." if is_high else "Raise the learning rate, if training should go on.",
                layer=layer,
                value=ratio,
                threshold=self._rule.high if is_high else self._rule.low,
            ),
        )


@dataclass(slots=True)
class _Samples:
    """What the sampled steps of one optimizer have shown."""

    incident: Incident
    num_steps: int = 0
    num_high: int = 0
    num_low: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class UnderflowRule:
    """Bounds of `underflow`."""

    subnormal_ratio: float = 0.1
    """Share of a parameter's gradient, zeros left out, below the smallest normal number of its dtype: it has lost
    precision already, and as much again may be zero. Micikevicius et al. 2018, arXiv:1710.03740, figure 3, saw 31 %
    of a network's gradients become zero in float16.
    """
    half_ratio: float = 0.5
    """Share of all gradients in float16's subnormal range, with nothing below it, where gradients are float32: they
    have come out of float16 operators under autocast, and were cut off there.
    """
    samples: float = 2
    """Sampled steps in a row."""


class Underflow(Skimming):
    """Reports gradients that the number format cannot hold, on sampled steps."""

    name = "underflow"

    def __init__(self, rule: UnderflowRule) -> None:
        self._rule = rule
        self.incidents = Incidents()
        self._tracks: dict[str | None, _Samples] = {}

    def see(self, report: StepReport | EpochReport | SelfReport) -> tuple[Event, ...]:
        """Return the incident that this step opens."""
        if not isinstance(report, StepReport) or report.gradients is None or report.gradients.sample is None:
            return ()
        if report.skipped is not None:
            return ()
        table, sample = report.gradients, report.gradients.sample
        track = self._tracks.get(report.optimizer)
        if track is None:
            incident = self.incidents.new(self.name, report.optimizer, _SAMPLES_TO_CLOSE)
            track = self._tracks[report.optimizer] = _Samples(incident)
        is_low_P = sample.subnormal_ratio_P > self._rule.subnormal_ratio  # not of what is not known: NaN
        half_ratio = _half_share(sample, report.grad_scale)
        if not is_low_P.any() and half_ratio < self._rule.half_ratio:
            track.num_low = 0
            track.incident.see_calm()
            return ()
        track.num_low += 1
        if track.num_low < self._rule.samples or not track.incident.see(Severity.WARNING, report.step):
            return ()
        first = int(np.argmax(is_low_P)) if is_low_P.any() else -1
        ratio = float(sample.subnormal_ratio_P[first]) if first >= 0 else half_ratio
        return (_underflow_event(report, table, first, ratio, self._rule),)

    def skim(self, stretch: Stretch, begin: int) -> int:
        """Leave them: none of them is sampled."""
        return len(stretch) - begin


def _half_share(sample: GradientSample, scale: float | None) -> float:
    """Return the share of magnitudes in float16's subnormal range, as they were before unscaling; 0 if any is below."""
    shift = 0 if scale is None or not 0 < scale < math.inf else round(math.log2(scale))
    counts_B = sample.histogram_GB.sum(axis=0)
    begin, end = (exponent - shift - EXPONENT_LOW + 1 for exponent in (_HALF_SMALLEST, _HALF_NORMAL))
    total = int(counts_B.sum())
    if total < _MIN_ELEMENTS or begin < 1 or counts_B[:begin].any():
        return 0.0
    if counts_B[begin : begin + _EDGE_BINADES].sum() < max(_MIN_EDGE_ELEMENTS, _MIN_EDGE_SHARE * total):
        return 0.0
    return float(counts_B[begin:end].sum() / total)


def _underflow_event(report: StepReport, table: GradientTable, first: int, ratio: float, rule: UnderflowRule) -> Event:
    layer = table.layers[int(table.layer_index_P[first])] if first >= 0 else None
    where = f"of {table.names[first]} " if first >= 0 else ""
    return event(
        report,
        "underflow",
        Severity.WARNING,
        f"{ratio:.0%} of the gradient {where}lies below the smallest normal number of its format and loses precision; "
        "smaller values have become zero.",
        "Scale the loss with torch.amp.GradScaler, or train in bfloat16, which has the range of float32.",
        layer=layer,
        value=ratio,
        threshold=rule.subnormal_ratio if first >= 0 else rule.half_ratio,
        attributes={} if first < 0 else {"parameter": table.names[first]},
    )
