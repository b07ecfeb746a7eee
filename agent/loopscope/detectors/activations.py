"""Activations that let nothing through: units that are dead, and units at a flat end of their function.

Shape legend: A calls of activation modules, in the order of the forward.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ..records import ActivationTable, Event, StepReport
from .incidents import Incident, Incidents, Severity, event
from .stretches import Skimming, Stretch

if TYPE_CHECKING:
    from ..records import EpochReport, Floats, SelfReport

__all__ = ["DeadUnits", "DeadUnitsRule", "SaturatedUnits", "SaturatedUnitsRule"]

_SAMPLES_TO_CLOSE = 3
_CLOSE_FACTOR = 0.8
"""The share has to fall to this part of the bound before an incident begins to close."""
_MAX_NAMED = 8
_LEARNT = 0.1
"""Loss over the first loss below which saturation is what came of learning, not what hinders it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadUnitsRule:
    """Bounds of `dead_units`."""

    ratio: float = 0.7
    """Share of an activation's units that put out nothing for any sample, over 128 rows and all sampled steps since.
    SageMaker's DeadRelu has 50 %, which a healthy layer behind random frozen convolutions reaches; Karpathy's 40 %
    (CS231n, https://cs231n.github.io/neural-networks-1/) is for a learning rate that was too high.
    """
    samples: float = 3
    """Sampled steps in a row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SaturatedUnitsRule:
    """Bounds of `saturated_units`."""

    ratio: float = 0.75
    """Share of an activation's elements at a flat end, where less than 1 % of the gradient comes through. SageMaker's
    SaturatedActivation has 50 %; hidden tanh layers of healthy runs reached 46 %. Glorot and Bengio 2010.
    """
    samples: float = 3
    """Sampled steps in a row."""


@dataclass(slots=True)
class _Track:
    """What the sampled steps of one optimizer have shown."""

    incident: Incident
    num_high: dict[str, int] = field(default_factory=dict)
    """Sampled steps in a row, by row of the table."""


class _Shares:
    """Rows whose share stays above a bound, several sampled steps in a row. Memory: a number a row."""

    def __init__(self, kind: str, ratio: float, samples: float) -> None:
        self.incidents = Incidents()
        self._kind, self._ratio, self._samples = kind, ratio, samples
        self._tracks: dict[str | None, _Track] = {}

    def see(self, report: StepReport, table: ActivationTable, share_A: Floats, severity: Severity) -> list[int]:
        """Return the rows of the incident that this step opens or makes worse."""
        track = self._tracks.get(report.optimizer)
        if track is None:
            incident = self.incidents.new(self._kind, report.optimizer, _SAMPLES_TO_CLOSE)
            track = self._tracks[report.optimizer] = _Track(incident)
        high = np.flatnonzero(share_A > self._ratio).tolist()
        track.num_high = {table.names[row]: track.num_high.get(table.names[row], 0) + 1 for row in high}
        rows = [row for row in high if track.num_high[table.names[row]] >= self._samples]
        if not (share_A > self._ratio * _CLOSE_FACTOR).any():
            track.incident.see_calm()
        modules = list(dict.fromkeys(table.modules[row] for row in rows))
        return rows if rows and track.incident.see(severity, report.step, modules) else []


class DeadUnits(Skimming):
    """Reports activations most of whose units never fire, on sampled steps."""

    name = "dead_units"

    def __init__(self, rule: DeadUnitsRule) -> None:
        self._rule = rule
        self._shares = _Shares(self.name, rule.ratio, rule.samples)
        self.incidents = self._shares.incidents

    def see(self, report: StepReport | EpochReport | SelfReport) -> tuple[Event, ...]:
        """Return the incident that this step opens."""
        if not isinstance(report, StepReport) or report.activations is None:
            return ()
        table = report.activations
        rows = self._shares.see(report, table, table.lasting_dead_ratio_A, Severity.WARNING)
        if not rows:
            return ()
        share = float(table.lasting_dead_ratio_A[rows[0]])
        message = (
            f"{share:.0%} of the {table.num_units_A[rows[0]]} units of {_named(table, rows)} put out nothing for any "
            "sample, and get no gradient."
        )
        remedy = (
            "Lower the learning rate or warm it up, look at the biases and at the scale of the inputs, or use an "
            "activation that does not cut to zero (LeakyReLU, GELU)."
        )
        fields = {"value": share, "threshold": self._rule.ratio, **_place(table, rows)}
        return (event(report, self.name, Severity.WARNING, message, remedy, **fields),)

    def skim(self, stretch: Stretch, begin: int) -> int:
        """Leave them: none of them is sampled."""
        return len(stretch) - begin


class SaturatedUnits(Skimming):
    """Reports activations that are at a flat end for most of their elements, on sampled steps.

    What the model itself puts out is left out: a classifier that is sure, an image with a black background. Where the
    loss has fallen to a tenth of its first value it is `info`.
    """

    name = "saturated_units"

    def __init__(self, rule: SaturatedUnitsRule) -> None:
        self._rule = rule
        self._shares = _Shares(self.name, rule.ratio, rule.samples)
        self.incidents = self._shares.incidents
        self._first_losses: dict[str | None, float] = {}

    def see(self, report: StepReport | EpochReport | SelfReport) -> tuple[Event, ...]:
        """Return the incident that this step opens."""
        if not isinstance(report, StepReport):
            return ()
        if report.loss is not None and math.isfinite(report.loss):
            self._first_losses.setdefault(report.optimizer, report.loss)
        table = report.activations
        if table is None:
            return ()
        severity = Severity.INFO if self._has_learnt(report) else Severity.WARNING
        share_A = np.where(table.is_output_A, np.nan, table.saturated_ratio_A)
        rows = self._shares.see(report, table, share_A, severity)
        if not rows:
            return ()
        share = float(share_A[rows[0]])
        message = (
            f"{share:.0%} of what {_named(table, rows)} puts out lies at a flat end of the function, where less than "
            "1 % of the gradient comes through."
        )
        remedy = "Scale the inputs and the initial weights down, normalise in front of it, or lower the learning rate."
        fields = {"value": share, "threshold": self._rule.ratio, **_place(table, rows)}
        return (event(report, self.name, severity, message, remedy, **fields),)

    def skim(self, stretch: Stretch, begin: int) -> int:
        """Leave them, once a loss is known: none of them is sampled."""
        return len(stretch) - begin if stretch.optimizer in self._first_losses else 0

    def _has_learnt(self, report: StepReport) -> bool:
        first = self._first_losses.get(report.optimizer)
        return first is not None and report.loss is not None and 0 <= report.loss < _LEARNT * first


def _named(table: ActivationTable, rows: list[int]) -> str:
    others = f" (and {len(rows) - 1} more)" if len(rows) > 1 else ""
    return f"{table.names[rows[0]]} ({table.types[rows[0]]}){others}"


def _place(table: ActivationTable, rows: list[int]) -> dict[str, Any]:
    """Return the fields of an event that say where: the first activation in the order of the forward."""
    layers = list(dict.fromkeys(table.modules[row] for row in rows))[:_MAX_NAMED]
    return {"layer": layers[0], "attributes": {"activation": table.names[rows[0]], "layers": layers}}
