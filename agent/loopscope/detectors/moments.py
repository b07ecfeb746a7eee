"""Moments: what else happened at a step that was bad or slow."""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from ..records import Event, StepReport

__all__ = ["Moments"]

_KEPT_STEPS = 8
"""A spike is told a step later than it was; reports of several optimizers come between."""
_EXPLAINED = frozenset(
    {
        "step_time_outlier",
        "gradient_spike",
        "exploding_gradient",
        "nonfinite_gradient",
        "nonfinite_loss",
        "loss_spike",
        "loss_diverging",
    }
)
_MAX_SYNCS = 3
_LISTED = ("recompilation", "compilation", "graph_break", "compile_fallback", "inplace_conflict", "inplace_corruption")


class Moments:
    """Keeps the latest reports of one agent, to say of an event what its step was like.

    The attribute `happened` then holds what is known of: phases, syncs by line (the three longest), compilations
    and writes in place by their lines, pauses of the garbage collector, retries of the allocator, batch, learning
    rates, the GradScaler's scale, clipping.
    """

    def __init__(self) -> None:
        self._latest: deque[tuple[StepReport, Sequence[Event]]] = deque(maxlen=_KEPT_STEPS)

    def add(self, report: StepReport, noted: Sequence[Event]) -> None:
        """Keep a report, with the events that came of its notes."""
        self._latest.append((report, noted))

    def explain(self, event: Event) -> Event:
        """Return the event with what happened at its step, where that helps."""
        if event.kind not in _EXPLAINED:
            return event
        for report, noted in reversed(self._latest):
            if report.step == event.step and report.optimizer == event.optimizer:
                return dataclasses.replace(event, attributes={**event.attributes, "happened": _happened(report, noted)})
        return event


def _happened(report: StepReport, noted: Sequence[Event]) -> Mapping[str, Any]:
    syncs = sorted(report.syncs, key=lambda sync: -sync.seconds)[:_MAX_SYNCS]
    table = report.gradients
    clipped = None if table is None or table.global_norm_pre_clip is None else table.global_norm_pre_clip
    found: dict[str, Any] = {
        "phases": dict(report.phases),
        "syncs": {f"{sync.site} {sync.kind}": sync.seconds for sync in syncs},
        "events": sorted(f"{each.kind} at {each.site}" for each in noted if each.kind in _LISTED),
        "pauses": dict(report.pauses),
        "batch": report.batch,
        "learning_rates": list(report.learning_rates),
        "grad_scale": report.grad_scale,
        "norm_before_clipping": clipped,
        "loss": report.loss,
    }
    return {name: value for name, value in found.items() if value not in (None, {}, [])}
