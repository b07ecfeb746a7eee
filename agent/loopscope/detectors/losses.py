"""Losses: single spikes, a level that rises for good, and one that no longer falls."""

from __future__ import annotations

import math
import statistics
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..records import Event, StepReport
from .incidents import Incident, Incidents, Severity, event

if TYPE_CHECKING:
    from ..records import EpochReport, Floats, SelfReport

__all__ = ["DivergingRule", "LossCourse", "LossSpikeRule", "PlateauRule"]

_WINDOW_STEPS = 100
_BLOCK_STEPS = 10
"""Steps after which bounds are taken anew, and whose median is the level."""
_SPIKE_WARMUP_STEPS = 50
"""Half a window: the maximum of fewer says little of a heavy tail."""
_MAD_TO_SIGMA = 1.4826
_STEPS_TO_CLOSE = 20
_LARGEST_LOG = 50.0
"""Keeps a bound finite where losses vary by tens of orders."""
_GROWING_STEPS = 3
"""Steps above the bound, each higher than the one before, that need not be waited out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LossSpikeRule:
    """Bounds of `loss_spike`."""

    z_score: float = 10.0
    """Robust standard deviations above the window's median (Huber's contamination, not a Gaussian tail)."""
    log_z_score: float = 6.0
    """The same of the logarithm, for losses above zero: returns and episodes vary by factors."""
    max_ratio: float = 15.0
    """Height over that of the window's highest: small batches have heavy tails. Healthy runs reached 10."""
    first_ratio: float = 2.0
    """Loss over its level at the start: where the loss has come near zero one wrong sample is no fault."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DivergingRule:
    """Bounds of `loss_diverging`."""

    ratio: float = 4.0
    """Loss over the highest level so far. A guess at random costs about what the start did; healthy runs reached 2."""
    adversarial_ratio: float = 30.0
    """The same where an agent watches several optimizers: the losses of a GAN move against each other."""
    z_score: float = 4.0
    """Robust standard deviations of the logarithm, so that noisy objectives need a larger rise."""
    signed_ratio: float = 30.0
    """Rise over the spread at the start, for losses that take both signs (policy gradients, Wasserstein)."""
    steps: float = 10
    """Steps in a row above the bound."""
    rise_per_100_steps: float = 10.0
    """How fast the highest level may follow: returns of a policy grow with its episodes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlateauRule:
    """Bounds of `loss_plateau`."""

    steps: float = 300
    """Steps without progress. SageMaker's LossNotDecreasing has 10 evaluations."""
    progress: float = 0.01
    """Share of the best mean of 100 steps by which the next best has to be lower."""
    converged: float = 0.01
    """Share of the first level below which there is nothing left to gain."""


class LossCourse:
    """Reports what the loss of one optimizer does. Memory: 110 floats an optimizer."""

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


class _Track:
    """The losses of one optimizer, and bounds that are taken anew every `_BLOCK_STEPS`."""

    def __init__(
        self,
        optimizer: str | None,
        spike: LossSpikeRule | None,
        diverging: DivergingRule | None,
        plateau: PlateauRule | None,
        incidents: Incidents,
    ) -> None:
        self._spike, self._diverging = spike, diverging
        self._losses: deque[float] = deque(maxlen=_WINDOW_STEPS)
        self._num_losses = 0
        self._lowest = math.inf
        self._median = self._first = self._highest = math.nan
        self._spike_bound = self._diverge_bound = math.inf
        self._streak = self._num_growing = 0
        self._last = math.nan
        self.pending: tuple[StepReport, float] | None = None
        self._spikes = incidents.new("loss_spike", optimizer, _STEPS_TO_CLOSE)
        self._divergence = incidents.new("loss_diverging", optimizer, _STEPS_TO_CLOSE)
        plateaus = incidents.new("loss_plateau", optimizer, 1)
        self._course = _Progress(plateau, plateaus) if plateau is not None else None

    def see(self, report: StepReport, loss: float, ratio: float) -> tuple[Event, ...]:
        """Return what this step opens; `ratio` is the bound of a divergence."""
        events: tuple[Event, ...] = ()
        if loss > self._spike_bound or loss > self._diverge_bound or self.pending is not None or self._streak:
            events = self._see_divergence(report, loss) + self._see_spike(report, loss)
        else:
            self._spikes.see_calm()
            self._divergence.see_calm()
        self._lowest = min(self._lowest, loss)
        self._losses.append(min(loss, self._spike_bound, self._diverge_bound))
        self._num_losses += 1
        self._last = loss
        if self._num_losses % _BLOCK_STEPS == 0 or self._num_losses == 2:
            self._renew(ratio)
        if self._course is not None:
            events += self._course.see(report, loss, self._first)
        return events

    def _see_divergence(self, report: StepReport, loss: float) -> tuple[Event, ...]:
        if not loss > self._diverge_bound:
            self._streak = self._num_growing = 0
            self._divergence.see_calm()
            return ()
        self._streak += 1
        self._num_growing = self._num_growing + 1 if loss > self._last else 0
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
                f"The loss diverges: {loss:.4g}, where its level was {self._highest:.4g} at most.",
                "Go back to a checkpoint from before; lower the learning rate, lengthen its warm-up or clip gradients.",
                value=loss,
                threshold=self._diverge_bound,
            ),
        )

    def _see_spike(self, report: StepReport, loss: float) -> tuple[Event, ...]:
        pending, self.pending = self.pending, None
        if self._spike is None or self._divergence.severity:
            return ()
        if pending is None:
            is_first = loss > self._spike_bound and not self._last > self._spike_bound
            self.pending = (report, loss) if is_first else None
            return ()
        spike_report, height = pending
        if loss > self._spike_bound:  # what stays up diverges, or is another level
            return ()
        if not self._spikes.see(Severity.WARNING, spike_report.step):
            return ()
        return (
            event(
                spike_report,
                "loss_spike",
                Severity.WARNING,
                f"The loss was {height:.4g} for a step, where {self._median:.4g} is usual.",
                "Look at the batch of this step: its values, its labels, its length.",
                value=height,
                threshold=self._spike_bound,
            ),
        )

    def _renew(self, ratio: float) -> None:
        losses_N = np.array(self._losses)
        ordered_N = np.sort(losses_N)
        median = self._median = float(ordered_N[len(ordered_N) // 2])
        if self._num_losses < _BLOCK_STEPS:
            if self._lowest > 0 and self._diverging is not None:  # a step or two: only what runs away from them
                self._highest = float(ordered_N[-1])
                self._diverge_bound = 25 * ratio * self._highest
            return
        level = statistics.median(losses_N[-_BLOCK_STEPS:].tolist())  # host sync: none, numpy
        sigma = _spread(ordered_N)
        log_sigma = _spread(np.log(ordered_N)) if self._lowest > 0 else 0.0
        is_first = self._num_losses == _BLOCK_STEPS
        if is_first:
            self._first = level
        if self._spike is not None and sigma == 0:  # most are the same (rewards that seldom come): no scale to judge by
            self._spike_bound = math.inf
        elif self._spike is not None and self._num_losses >= _SPIKE_WARMUP_STEPS:
            height = max(self._spike.max_ratio * (float(ordered_N[-1]) - median), self._spike.z_score * sigma)
            self._spike_bound = max(median + height, self._spike.first_ratio * abs(self._first))
            if self._lowest > 0:
                margin = min(self._spike.log_z_score * log_sigma, _LARGEST_LOG)
                self._spike_bound = max(self._spike_bound, median * math.exp(margin))
        if self._diverging is not None:
            spread = float(ordered_N[-1]) - float(ordered_N[0])
            self._bound_divergence(level, ratio, sigma, log_sigma, spread, is_first=is_first)

    def _bound_divergence(
        self, level: float, ratio: float, sigma: float, log_sigma: float, spread: float, *, is_first: bool
    ) -> None:
        rule = self._diverging
        assert rule is not None
        rise = rule.rise_per_100_steps ** (_BLOCK_STEPS / 100)
        if self._lowest > 0:
            self._highest = level if is_first else max(self._highest, min(level, self._highest * rise))
            margin = min(rule.z_score * log_sigma, _LARGEST_LOG)
            self._diverge_bound = self._highest * max(ratio, math.exp(margin))
            return
        if sigma == 0:  # as for spikes: no scale to judge by
            self._diverge_bound = math.inf
            return
        spread = max(spread, abs(self._first))
        self._highest = level if is_first else max(self._highest, min(level, self._highest + spread))
        self._diverge_bound = self._highest + rule.signed_ratio * spread


class _Progress:
    """Whether the mean loss still falls."""

    def __init__(self, rule: PlateauRule, incident: Incident) -> None:
        self._rule, self._incident = rule, incident
        self._sum, self._num_losses, self._num_stale = 0.0, 0, 0
        self._best = math.inf

    def see(self, report: StepReport, loss: float, first: float) -> tuple[Event, ...]:
        """Return the incident that this step opens."""
        self._sum += loss
        self._num_losses += 1
        if self._num_losses < _WINDOW_STEPS:
            return ()
        mean, self._sum, self._num_losses = self._sum / self._num_losses, 0.0, 0
        if mean < self._best - self._rule.progress * abs(self._best) or math.isinf(self._best):
            self._best, self._num_stale = mean, 0
            self._incident.close()
            return ()
        self._num_stale += _WINDOW_STEPS
        is_converged = 0 <= self._best < self._rule.converged * abs(first)
        if is_converged or self._num_stale < self._rule.steps:
            return ()
        if not self._incident.see(Severity.INFO, report.step):
            return ()
        return (
            event(
                report,
                "loss_plateau",
                Severity.INFO,
                f"The loss has not fallen for {self._num_stale} steps; its best mean of {_WINDOW_STEPS} steps was "
                f"{self._best:.4g}.",
                "Nothing to do where training has converged; else look at the learning rate and its schedule.",
                value=mean,
                threshold=self._best,
            ),
        )


def _spread(ordered_N: Floats) -> float:
    """Return the robust standard deviation of values that are in order."""
    middle = len(ordered_N) // 2
    with np.errstate(over="ignore"):
        return _MAD_TO_SIGMA * float(np.sort(np.abs(ordered_N - ordered_N[middle]))[middle])
