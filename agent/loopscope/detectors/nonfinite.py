"""Non-finite gradients and losses: an incident opens once, says so again only when it gets worse, and closes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..records import Event, NonfiniteOrigin, StepReport
from .incidents import Incident, Incidents, Severity, event
from .stretches import Skimming, Stretch

if TYPE_CHECKING:
    from ..records import EpochReport, GradientTable, SelfReport

__all__ = ["NonfiniteGradient", "NonfiniteLoss"]

FINITE_STEPS_TO_CLOSE = 10
"""Finite steps in a row after which an incident is over, so that a flickering one does not open again and again.

It is also the memory of momentum 0.9, the usual one: 1 / (1 - 0.9) steps.
"""
MAX_SCALER_SKIPS = 5
"""Steps that a GradScaler may skip in a row: as many halve a scale that has worked by 32.

It is doubled once in 2,000 steps at the most (`growth_interval`), after which one skip, seldom two, restores it:
https://docs.pytorch.org/docs/stable/amp.html#torch.amp.GradScaler
"""
MAX_FIRST_SCALER_SKIPS = 16
"""The same before the first step that was taken: as many halve the initial scale 2**16 to 1, where nothing is left."""


class NonfiniteGradient(Skimming):
    """Reports a layer whose gradient became NaN or infinite.

    `critical` where the optimizer took the step, or a GradScaler finds no scale that works; `warning` where the loop
    itself left the step out; `info` for the single steps that a GradScaler skips as a matter of course.
    """

    name = "nonfinite_gradient"

    def __init__(self) -> None:
        self.incidents = Incidents()
        self._watches: dict[str | None, _Watch] = {}

    def see(self, report: StepReport | EpochReport | SelfReport) -> tuple[Event, ...]:
        """Return the incident that this step opens or makes worse, if any."""
        if not isinstance(report, StepReport):
            return ()
        watch = self._watches.get(report.optimizer)
        if watch is None:
            incident = self.incidents.new(self.name, report.optimizer, FINITE_STEPS_TO_CLOSE)
            watch = self._watches[report.optimizer] = _Watch(incident)
        return (_gradient_event(report, watch),) if watch.see(report) else ()

    def skim(self, stretch: Stretch, begin: int) -> int:
        """Leave them: all are finite, and taken."""
        watch = self._watches.get(stretch.optimizer)
        return len(stretch) - begin if watch is not None and watch.is_calm else 0


class NonfiniteLoss(Skimming):
    """Reports a loss that became NaN or infinite, with the layer or the input in which it began where that is known.

    `critical`; `info` for infinity on a step that a GradScaler skips, where the loss read at `backward` is the scaled
    one and may have left the range of float16 by the scale alone.
    """

    name = "nonfinite_loss"

    def __init__(self) -> None:
        self.incidents = Incidents()
        self._open: dict[str | None, Incident] = {}

    def see(self, report: StepReport | EpochReport | SelfReport) -> tuple[Event, ...]:
        """Return the incident that this step opens or makes worse, if any."""
        if not isinstance(report, StepReport) or report.loss is None:
            return ()
        incident = self._open.get(report.optimizer)
        if math.isfinite(report.loss):
            if incident is not None:
                incident.see_calm()
            return ()
        if incident is None:
            incident = self.incidents.new(self.name, report.optimizer, FINITE_STEPS_TO_CLOSE)
            self._open[report.optimizer] = incident
        layer = _origin_layer(report)
        return (_loss_event(report, incident),) if incident.see(_loss_severity(report), report.step, [layer]) else ()

    def skim(self, stretch: Stretch, begin: int) -> int:
        """Leave those with a finite loss, or none."""
        incident = self._open.get(stretch.optimizer)
        if incident is not None and incident.severity:
            return 0
        return stretch.first(lambda report: report.loss is not None and not math.isfinite(report.loss), begin)


@dataclass(slots=True)
class _Watch:
    """What the gradients of one optimizer's reports say."""

    incident: Incident
    num_scaler_skips: int = 0
    max_scaler_skips: int = MAX_FIRST_SCALER_SKIPS

    def see(self, report: StepReport) -> bool:
        """Return whether the gradients are news."""
        self._count_scaler_skips(report)
        table = report.gradients
        is_bad = table is not None and table.has_nonfinite
        if is_bad or report.skipped == "grad_scaler":
            return self.incident.see(self._severity(report), report.step, _in_order_of_cause(report))
        if table is not None and report.skipped is None:
            self.incident.see_calm()
        return False

    @property
    def is_calm(self) -> bool:
        """Whether a finite step that is taken would change nothing."""
        return not (self.incident.severity or self.num_scaler_skips) and self.max_scaler_skips == MAX_SCALER_SKIPS

    @property
    def is_scale_lost(self) -> bool:
        """Whether the GradScaler has skipped more steps in a row than finding its scale can explain."""
        return self.num_scaler_skips >= self.max_scaler_skips

    def _count_scaler_skips(self, report: StepReport) -> None:
        if report.num_steps:
            self.num_scaler_skips, self.max_scaler_skips = 0, MAX_SCALER_SKIPS
        if report.skipped == "grad_scaler":
            num_dropped = 0 if report.num_steps else report.num_skipped.get("grad_scaler", 1) - 1
            self.num_scaler_skips += 1 + num_dropped

    def _severity(self, report: StepReport) -> Severity:
        reason = _skip_reason(report)
        if reason is None or (reason == "grad_scaler" and self.is_scale_lost):
            return Severity.CRITICAL
        return Severity.INFO if reason == "grad_scaler" else Severity.WARNING


def _loss_severity(report: StepReport) -> Severity:
    is_scaled = report.skipped == "grad_scaler" and report.loss_source == "backward"
    if is_scaled and report.loss is not None and math.isinf(report.loss):
        return Severity.INFO
    return Severity.WARNING if report.skipped == "manual" else Severity.CRITICAL


def _skip_reason(report: StepReport) -> str | None:
    """Return why the non-finite gradients were not applied, None where they were.

    With a finite norm they were counted on steps whose reports were dropped: on the skipped ones, if there were any.
    """
    if report.skipped is None and report.gradients is not None and math.isfinite(report.gradients.global_norm):
        return next(iter(report.num_skipped), None)
    return report.skipped


def _origin_layer(report: StepReport) -> str | None:
    """Return the layer in which the forward pass became non-finite, None where that is not known."""
    origin, table = report.origin, report.gradients
    if origin is None or origin.parameter is None or table is None or origin.parameter not in table.names:
        return None
    return table.layers[int(table.layer_index_P[table.names.index(origin.parameter)])]


def _in_order_of_cause(report: StepReport) -> list[str]:
    """Return the non-finite layers, the one to look at first.

    That is the one in which the forward pass became non-finite. With a finite loss backward did: where all layers up to
    one are non-finite and those behind it are not, it is that one, through which the others' gradients came. Else
    the order is the model's.
    """
    if report.gradients is None:
        return []
    layers = list(report.gradients.nonfinite_layers)
    first = _origin_layer(report)
    if first is None and layers and len(layers) < len(report.gradients.layers) and _is_loss_finite(report):
        is_prefix = layers == list(report.gradients.layers[: len(layers)])
        first = layers[-1] if is_prefix else None
    return [first, *(layer for layer in layers if layer != first)] if first in layers and first else layers


def _is_loss_finite(report: StepReport) -> bool:
    return report.loss is None or math.isfinite(report.loss)


_APPLIED = (
    "{subject} became NaN or infinite, and the optimizer took the step with it.",
    (
        "Go back to a checkpoint from before this step. Then lower the learning rate or clip with "
        "clip_grad_norm_(..., error_if_nonfinite=True); torch.autograd.set_detect_anomaly(True) names the operation."
    ),
)
_LEFT_OUT = (
    "{subject} became NaN or infinite on a step that the loop left out.",
    (
        "The weights are unharmed. Should it come back, look at the batch of this step; "
        "torch.autograd.set_detect_anomaly(True) names the operation."
    ),
)
_OVERFLOW = (
    "{subject} overflowed at the scale {scale}, and the GradScaler skipped the step.",
    "Nothing to do: the GradScaler lowers its scale and goes on.",
)
_SCALE_LOST = (
    "{subject} stays NaN or infinite at every scale: the GradScaler skipped {num_skips} steps in a row.",
    (
        "Look for NaN in the batch and for an operation that leaves the range of float16; run it in float32 with "
        "torch.autocast(..., enabled=False), or train in bfloat16."
    ),
)


def _gradient_event(report: StepReport, watch: _Watch) -> Event:
    reason, table = _skip_reason(report), report.gradients
    layers = _in_order_of_cause(report)
    layer = layers[0] if layers else None
    if reason == "grad_scaler":
        message, remedy = _SCALE_LOST if watch.is_scale_lost else _OVERFLOW
    else:
        message, remedy = _APPLIED if reason is None else _LEFT_OUT
    others = f" (and {len(layers) - 1} more)" if len(layers) > 1 else ""
    subject = "The gradient" + (f" of layer {layer}" if layer else "") + others
    scale = "in use" if report.grad_scale is None else f"{report.grad_scale:g}"
    num_nonfinite = 0 if table is None else int(table.num_nonfinite.sum())
    return event(
        report,
        "nonfinite_gradient",
        watch.incident.severity,
        message.format(subject=subject, scale=scale, num_skips=watch.num_scaler_skips),
        remedy,
        layer=layer,
        value=float(num_nonfinite) if layer else None,
        attributes={
            "layers": layers,
            "parameter": None if table is None or layer is None else _first_parameter(table, layer),
            "num_nonfinite": num_nonfinite,
        },
    )


def _first_parameter(table: GradientTable, layer: str) -> str | None:
    is_first_P = table.is_nonfinite & (table.layer_index_P == table.layers.index(layer))
    return table.names[int(np.argmax(is_first_P))] if is_first_P.any() else None


def _loss_event(report: StepReport, incident: Incident) -> Event:
    is_nan = report.loss is not None and math.isnan(report.loss)
    origin, layer = report.origin, incident.layer
    attributes: dict[str, Any] = {"loss": str(report.loss)}
    message, remedy = f"The loss became {'NaN' if is_nan else 'infinite'}.", _LOSS_REMEDY
    if origin is not None:
        began, remedy = _explain(origin, layer)
        message = f"{message} {began}"
        attributes |= {"origin": origin.what, "operator": origin.operator, "parameter": origin.parameter}
        if origin.rows:
            attributes["rows"] = list(origin.rows)
    return event(report, "nonfinite_loss", incident.severity, message, remedy, layer=layer, attributes=attributes)


_LOSS_REMEDY = (
    "Look at the batch of this step for NaN and for wrong labels, and at the loss for a logarithm of or a division "
    "by zero; if both are in order, lower the learning rate."
)


def _explain(origin: NonfiniteOrigin, layer: str | None) -> tuple[str, str]:
    """Return where the forward pass became non-finite, and what to do."""
    rows = f" in row{'s' if len(origin.rows) > 1 else ''} {', '.join(map(str, origin.rows))}" if origin.rows else ""
    where = f" in layer {layer}" if layer else ""
    message, remedy = _ORIGINS[origin.what]
    of = layer or origin.parameter
    return message.format(where=where, rows=rows, of=of, operator=origin.operator, parameter=origin.parameter), remedy


_ORIGINS = {
    "input": (
        "It began with what goes into {operator}{where}, which is not finite already{rows}.",
        "Look at these samples of the batch, and at what makes them: a division by a spread of zero, a logarithm.",
    ),
    "target": (
        "It began with the target of the loss, which is not finite{rows}.",
        "Look at the labels of these samples, and at what makes them.",
    ),
    "weight": (
        "It began with the weights of layer {of}: {parameter} was not finite before this step.",
        "Find what wrote it: the step before, a checkpoint that was loaded, an initialisation, an average.",
    ),
    "operator": (
        "It began{where}, at {operator} or right before{rows}.",
        (
            "Look for a logarithm or root of zero or less, a division by zero, or an overflow there, and at what comes "
            "in from outside (targets, masks): clamp its input, or lower the learning rate if activations grow."
        ),
    ),
}
