"""Losses: single spikes, and a level that rises for good; whether it still falls is in progress.py."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from ..records import Event, StepReport
from .incidents import Incidents, Severity, event
from .loss_bounds import DivergingRule, LossBounds, LossSpikeRule
from .progress import PlateauRule, Progress
from .stretches import Skimming, Stretch

if TYPE_CHECKING:
    from ..records import EpochReport, SelfReport

__all__ = ["LossCourse"]

_STEPS_TO_CLOSE = 20
_GROWING_STEPS = 3
"""Steps above the bound, each higher than the one before, that need not be waited out."""


class LossCourse(Skimming):
    """Reports what the loss of one optimizer does. Memory: 120 floats an optimizer."""

    name = "loss_course"

    def __init__(
        self, spike: LossSpikeRule | None, diverging: DivergingRule | None, plateau: PlateauRule | None
    ) -> None:
        self._spike, self._diverging, self._plateau = spike, diverging, plateau
        self.incidents = Incidents()
        self._tracks: dict[str | None, _Track] = {}

    def see(self, report: StepReport | EpochReport | SelfReport) -> tuple[Event, ...]:
        """Return the incidents that this step opens."""
        if not isinstance(report, StepReport) or report.loss is None or report.skipped is not None:
            return ()
        track = self._tracks.get(report.optimizer)
        if track is None:
            track = _Track(report.optimizer, self._spike, self._diverging, self._plateau, self.incidents)
            self._tracks[report.optimizer] = track
        if not math.isfinite(report.loss):
            track.pending = None
            return ()
        ratio = 0.0
        if self._diverging is not None:
            ratio = self._diverging.ratio if len(self._tracks) == 1 else self._diverging.adversarial_ratio
        return track.see(report, report.loss, ratio)

    def skim(self, stretch: Stretch, begin: int) -> int:
        """Take in steps up to the last one of a block, or to a loss that comes near its bounds."""
        track = self._tracks.get(stretch.optimizer)
        return track.skim(stretch.reports[begin:]) if track is not None else 0


class _Peak(NamedTuple):
    """A loss that may turn out to be a spike, and what it was judged by."""

    report: StepReport
    loss: float
    bound: float
    median: float


class _Track:
    """The losses of one optimizer."""

    def __init__(
        self,
        optimizer: str | None,
        spike: LossSpikeRule | None,
        diverging: DivergingRule | None,
        plateau: PlateauRule | None,
        incidents: Incidents,
    ) -> None:
        self._spike, self._diverging = spike, diverging
        self._bounds = LossBounds(spike, diverging)
        self._streak = self._num_growing = 0
        self.pending: _Peak | None = None
        self._spikes = incidents.new("loss_spike", optimizer, _STEPS_TO_CLOSE)
        self._divergence = incidents.new("loss_diverging", optimizer, _STEPS_TO_CLOSE)
        plateaus = incidents.new("loss_plateau", optimizer, 1)
        self._course = Progress(plateau, plateaus) if plateau is not None else None

    def see(self, report: StepReport, loss: float, ratio: float) -> tuple[Event, ...]:
        """Return what this step opens; `ratio` is the bound of a divergence."""
        events: tuple[Event, ...] = ()
        if self._bounds.is_above(loss) or self.pending is not None or self._streak:
            events = self._see_divergence(report, loss) + self._see_spike(report, loss)
        else:
            self._spikes.see_calm()
            self._divergence.see_calm()
        self._bounds.take(loss, ratio)
        if self._course is not None:
            events += self._course.see(report, loss, self._bounds.first)
        return events

    def skim(self, reports: Sequence[StepReport]) -> int:
        """Take in losses that are far from the bounds, and that end no block; return how many."""
        if self.pending is not None or self._streak or self._spikes.severity or self._divergence.severity:
            return 0
        calm = self._bounds.take_calm(report.loss for report in reports)
        if self._course is not None:
            self._course.add(calm)
        return len(calm)

    def _see_divergence(self, report: StepReport, loss: float) -> tuple[Event, ...]:
        if not loss > self._bounds.diverge:
            self._streak = self._num_growing = 0
            self._divergence.see_calm()
            return ()
        self._streak += 1
        self._num_growing = self._num_growing + 1 if loss > self._bounds.last else 0
        rule = self._diverging
        if rule is None or not (self._streak >= rule.steps or self._num_growing >= _GROWING_STEPS):
            return ()
        self.pending = None
        if not self._divergence.see(Severity.WARNING, report.step):
            return ()
        return (
            event(
                report,
                "loss_diverging",
                Severity.WARNING,
                f"The loss diverges: {loss:.4g}, where its level was {self._bounds.highest:.4g} at most.",
                "Go back to a checkpoint from before; lower the learning rate, lengthen its warm-up or clip gradients.",
                value=loss,
                threshold=self._bounds.diverge,
            ),
        )

    def _see_spike(self, report: StepReport, loss: float) -> tuple[Event, ...]:
        pending, self.pending = self.pending, None
        if self._spike is None or self._divergence.severity:
            return ()
        if pending is None:
            is_first = loss > self._bounds.spike and not self._bounds.last > self._bounds.spike
            self.pending = _Peak(report, loss, self._bounds.spike, self._bounds.median) if is_first else None
            return ()
        if loss > self._bounds.spike:  # what stays up diverges, or is another level
            return ()
        if not self._spikes.see(Severity.WARNING, pending.report.step):
            return ()
        return (
            event(
                pending.report,
                "loss_spike",
                Severity.WARNING,
                f"The loss was {pending.loss:.4g} for a step, where {pending.median:.4g} is usual.",
                "Look at the batch of this step: its values, its labels, its length.",
                value=pending.loss,
                threshold=pending.bound,
            ),
        )
