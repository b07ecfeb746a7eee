"""Non-finite gradients and losses: an incident opens once, says so again only when it gets worse, and closes."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ..records import Event, StepReport
from .incidents import Incident, Severity, origin

if TYPE_CHECKING:
    from ..records import EpochReport, GradientTable

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


class NonfiniteGradient:
    """Reports a layer whose gradient became NaN or infinite.

    `critical` where the optimizer took the step, or a GradScaler finds no scale that works; `warning` where the loop
    itself left the step out; `info` for the single steps that a GradScaler skips as a matter of course.
    """

    name = "nonfinite_gradient"

    def __init__(self) -> None:
        self._watches: defaultdict[str | None, _Watch] = defaultdict(_Watch)

    def see(self, report: StepReport | EpochReport) -> tuple[Event, ...]:
        """Return the incident that this step opens or makes worse, if any."""
        if not isinstance(report, StepReport):
            return ()
        watch = self._watches[report.optimizer]
        has_news, _ = watch.see(report)
        return (_gradient_event(report, watch),) if has_news else ()


class NonfiniteLoss:
    """Reports a loss that became NaN or infinite, and the non-finite gradient that it followed, if any.

    `critical`; `info` for infinity on a step that a GradScaler skips, where the loss read at `backward` is the scaled
    one and may have left the range of float16 by the scale alone.
    """

    name = "nonfinite_loss"

    def __init__(self) -> None:
        self._watches: defaultdict[str | None, _Watch] = defaultdict(_Watch)

    def see(self, report: StepReport | EpochReport) -> tuple[Event, ...]:
        """Return the incident that this step opens or makes worse, if any."""
        if not isinstance(report, StepReport):
            return ()
        watch = self._watches[report.optimizer]
        _, has_news = watch.see(report)
        return (_loss_event(report, watch),) if has_news else ()


@dataclass(slots=True)
class _Watch:
    """What one optimizer's reports say; both detectors follow both incidents, to know which came first."""

    gradient: Incident = field(default_factory=lambda: Incident(FINITE_STEPS_TO_CLOSE))
    loss: Incident = field(default_factory=lambda: Incident(FINITE_STEPS_TO_CLOSE))
    num_scaler_skips: int = 0
    max_scaler_skips: int = MAX_FIRST_SCALER_SKIPS

    def see(self, report: StepReport) -> tuple[bool, bool]:
        """Return whether the gradients and whether the loss are news."""
        self._count_scaler_skips(report)
        return self._see_gradient(report), self._see_loss(report)

    @property
    def is_scale_lost(self) -> bool:
        """Whether the GradScaler has skipped more steps in a row than finding its scale can explain."""
        return self.num_scaler_skips >= self.max_scaler_skips

    @property
    def has_gradient_led_to_loss(self) -> bool:
        """Whether the gradients went first: on the same step, or on an earlier one that the optimizer took."""
        first, then = self.gradient, self.loss
        is_taken = first.severity is Severity.CRITICAL
        return bool(first.severity) and (first.step == then.step or (is_taken and first.step < then.step))

    @property
    def has_loss_led_to_gradient(self) -> bool:
        """Whether the loss went first, on an earlier step."""
        return bool(self.loss.severity) and self.loss.step < self.gradient.step

    def _count_scaler_skips(self, report: StepReport) -> None:
        if report.num_steps:
            self.num_scaler_skips, self.max_scaler_skips = 0, MAX_SCALER_SKIPS
        if report.skipped == "grad_scaler":
            num_dropped = 0 if report.num_steps else report.num_skipped.get("grad_scaler", 1) - 1
            self.num_scaler_skips += 1 + num_dropped

    def _see_gradient(self, report: StepReport) -> bool:
        table = report.gradients
        is_bad = table is not None and np.count_nonzero(table.num_nonfinite) > 0
        if is_bad or report.skipped == "grad_scaler":
            layer = next(iter(table.nonfinite_layers), None) if table is not None else None
            return self.gradient.see(self._gradient_severity(report), report.step, layer)
        if table is not None and report.skipped is None:
            self.gradient.see_calm()
        return False

    def _gradient_severity(self, report: StepReport) -> Severity:
        reason = _skip_reason(report)
        if reason is None or (reason == "grad_scaler" and self.is_scale_lost):
            return Severity.CRITICAL
        return Severity.INFO if reason == "grad_scaler" else Severity.WARNING

    def _see_loss(self, report: StepReport) -> bool:
        if report.loss is None:
            return False
        if math.isfinite(report.loss):
            self.loss.see_calm()
            return False
        is_scaled = report.skipped == "grad_scaler" and report.loss_source == "backward"
        if is_scaled and math.isinf(report.loss):
            return self.loss.see(Severity.INFO, report.step)
        return self.loss.see(Severity.WARNING if report.skipped == "manual" else Severity.CRITICAL, report.step)


def _skip_reason(report: StepReport) -> str | None:
    """Return why the non-finite gradients were not applied, None where they were.

    With a finite norm they were counted on steps whose reports were dropped: on the skipped ones, if there were any.
    """
    if report.skipped is None and report.gradients is not None and math.isfinite(report.gradients.global_norm):
        return next(iter(report.num_skipped), None)
    return report.skipped


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
    found = {"layers": [], "parameter": None, "num_nonfinite": 0} if table is None else _nonfinite(table)
    layer, *others = found["layers"] or [None]
    if reason == "grad_scaler":
        message, remedy = _SCALE_LOST if watch.is_scale_lost else _OVERFLOW
    else:
        message, remedy = _APPLIED if reason is None else _LEFT_OUT
    cause = {"cause": "nonfinite_loss", "cause_step": watch.loss.step} if watch.has_loss_led_to_gradient else {}
    subject = (
        "The gradient" + (f" of layer {layer}" if layer else "") + (f" (and {len(others)} more)" if others else "")
    )
    scale = "in use" if report.grad_scale is None else f"{report.grad_scale:g}"
    return Event(
        kind="nonfinite_gradient",
        severity=watch.gradient.severity.name.lower(),
        message=message.format(subject=subject, scale=scale, num_skips=watch.num_scaler_skips),
        remedy=remedy,
        layer=layer,
        value=float(found["num_nonfinite"]) if layer else None,
        first_cause=not cause,
        attributes=found | cause,
        **origin(report),
    )


def _nonfinite(table: GradientTable) -> dict[str, Any]:
    """Return the layers in forward order, the first parameter of the first of them, and the elements in all."""
    layers = table.nonfinite_layers
    is_first_P = table.is_nonfinite & (table.layer_index_P == (table.layers.index(layers[0]) if layers else -1))
    parameter = table.names[int(np.argmax(is_first_P))] if layers else None
    return {"layers": list(layers), "parameter": parameter, "num_nonfinite": int(table.num_nonfinite.sum())}


def _loss_event(report: StepReport, watch: _Watch) -> Event:
    is_nan = report.loss is not None and math.isnan(report.loss)
    message = f"The loss became {'NaN' if is_nan else 'infinite'}"
    remedy = (
        "Look at the batch of this step for NaN and for wrong labels, and at the loss for a logarithm of or a division "
        "by zero; if both are in order, lower the learning rate."
    )
    cause: dict[str, Any] = {}
    if watch.has_gradient_led_to_loss:
        step, layer = watch.gradient.step, watch.gradient.layer
        cause = {"cause": "nonfinite_gradient", "cause_step": step, "cause_layer": layer}
        message += f"; the gradient{f' of layer {layer}' if layer else ''} is NaN or infinite since step {step}"
        remedy = f"See the event nonfinite_gradient of step {step} first. {remedy}"
    return Event(
        kind="nonfinite_loss",
        severity=watch.loss.severity.name.lower(),
        message=message + ".",
        remedy=remedy,
        first_cause=not cause,
        attributes={"loss": str(report.loss)} | cause,
        **origin(report),
    )
