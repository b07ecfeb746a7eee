"""Losses: single spikes, and a level that rises for good; whether it still falls is in progress.py."""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..records import Event, StepReport
from .incidents import Incidents, Severity, event
from .progress import PlateauRule, Progress

if TYPE_CHECKING:
    from ..records import EpochReport, Floats, SelfReport

__all__ = ["DivergingRule", "LossCourse", "LossSpikeRule"]

_WINDOW_STEPS = 100
_BLOCK_STEPS = 10
"""Steps at whose end the bounds change, and whose median is the level."""
_MAX_STALE_BLOCKS = 5
"""Blocks for which the bounds may wait where no loss comes near them."""
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


class LossCourse:
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


class _Peak(NamedTuple):
    """A loss that may turn out to be a spike, and what it was judged by."""

    report: StepReport
    loss: float
    bound: float
    median: float


class _Track:
    """The losses of one optimizer, and bounds: those of the last block's end.

    They are worked out when a loss comes near them, `_MAX_STALE_BLOCKS` later at the latest.
    """

    def __init__(
        self,
        optimizer: str | None,
        spike: LossSpikeRule | None,
        diverging: DivergingRule | None,
        plateau: PlateauRule | None,
        incidents: Incidents,
    ) -> None:
        self._spike, self._diverging = spike, diverging
        self._losses: deque[float] = deque(maxlen=_WINDOW_STEPS + _BLOCK_STEPS)
        self._num_losses = self._num_stale = 0
        self._safe = math.inf
        """What the bounds of the last block's end are not below, whatever came since they were worked out."""
        self._lowest = math.inf
        self._ratio = 0.0
        """Bound of a divergence, as of the last block's end."""
        self._median = self._first = self._highest = math.nan
        self._spike_bound = self._diverge_bound = math.inf
        self._streak = self._num_growing = 0
        self._last = math.nan
        self.pending: _Peak | None = None
        self._spikes = incidents.new("loss_spike", optimizer, _STEPS_TO_CLOSE)
        self._divergence = incidents.new("loss_diverging", optimizer, _STEPS_TO_CLOSE)
        plateaus = incidents.new("loss_plateau", optimizer, 1)
        self._course = Progress(plateau, plateaus) if plateau is not None else None

    def see(self, report: StepReport, loss: float, ratio: float) -> tuple[Event, ...]:
        """Return what this step opens; `ratio` is the bound of a divergence."""
        events: tuple[Event, ...] = ()
        if self._num_stale and not 0 < loss <= self._safe:
            self._renew()
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
            self._ratio = ratio
            self._end_block()
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
            self.pending = _Peak(report, loss, self._spike_bound, self._median) if is_first else None
            return ()
        if loss > self._spike_bound:  # what stays up diverges, or is another level
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

    def _begin(self) -> None:
        """Take the bound from the first two losses: only what runs away from them exceeds it."""
        if self._lowest > 0 and self._diverging is not None:
            self._highest = max(self._losses)
            self._diverge_bound = 25 * self._ratio * self._highest

    def _end_block(self) -> None:
        """Have the bounds wait, where it is known what they are not below, or take them anew."""
        if self._num_losses == 2:
            self._begin()
            return
        self._num_stale += 1
        is_known = self._num_losses > _SPIKE_WARMUP_STEPS and self._lowest > 0
        if not is_known or self._num_stale == _MAX_STALE_BLOCKS:
            self._renew()
            return
        # The highest level of losses above zero never falls, and the level at the start stays what it is.
        self._safe = min(self._spike_bound, self._diverge_bound)  # where a rule is off, or its ratio has just risen
        if self._diverging is not None:
            self._safe = min(self._safe, self._highest * self._ratio)
        if self._spike is not None:
            self._safe = min(self._safe, self._spike.first_ratio * abs(self._first))

    def _renew(self) -> None:
        """Have the bounds be those of the last block's end."""
        losses = list(self._losses)[: len(self._losses) - self._num_losses % _BLOCK_STEPS]
        is_first = self._num_losses == _BLOCK_STEPS
        ends = range(len(losses) - _BLOCK_STEPS * (self._num_stale - 1), len(losses) + 1, _BLOCK_STEPS)
        levels = [statistics.median(losses[end - _BLOCK_STEPS : end]) for end in ends]
        self._num_stale = 0
        if is_first:
            self._first = levels[-1]
        ordered_N = np.sort(losses[-_WINDOW_STEPS:])
        lowest, median, highest = (float(ordered_N[place]) for place in (0, len(ordered_N) // 2, -1))
        sigma, self._median = _spread(ordered_N), median
        log_sigma = _spread(np.log(ordered_N)) if self._lowest > 0 else 0.0
        if self._spike is not None and sigma == 0:  # most are the same (rewards that seldom come): no scale to judge by
            self._spike_bound = math.inf
        elif self._spike is not None and self._num_losses >= _SPIKE_WARMUP_STEPS:
            height = max(self._spike.max_ratio * (highest - median), self._spike.z_score * sigma)
            self._spike_bound = max(median + height, self._spike.first_ratio * abs(self._first))
            if self._lowest > 0:
                margin = min(self._spike.log_z_score * log_sigma, _LARGEST_LOG)
                self._spike_bound = max(self._spike_bound, median * math.exp(margin))
        if self._diverging is not None:
            self._highest = levels[0] if is_first else self._highest
            self._bound_divergence(self._diverging, levels, sigma, log_sigma, highest - lowest)

    def _bound_divergence(
        self, rule: DivergingRule, levels: Sequence[float], sigma: float, log_sigma: float, spread: float
    ) -> None:
        if self._lowest > 0:
            rise = rule.rise_per_100_steps ** (_BLOCK_STEPS / 100)
            for level in levels:
                self._highest = max(self._highest, min(level, self._highest * rise))
            margin = min(rule.z_score * log_sigma, _LARGEST_LOG)
            self._diverge_bound = self._highest * max(self._ratio, math.exp(margin))
            return
        if sigma == 0:  # as for spikes: no scale to judge by
            self._diverge_bound = math.inf
            return
        spread = max(spread, abs(self._first))
        self._highest = max(self._highest, min(levels[-1], self._highest + spread))
        self._diverge_bound = self._highest + rule.signed_ratio * spread


def _spread(ordered_N: Floats) -> float:
    """Return the robust standard deviation of values that are in order."""
    middle = len(ordered_N) // 2
    with np.errstate(over="ignore"):
        return _MAD_TO_SIGMA * float(np.sort(np.abs(ordered_N - ordered_N[middle]))[middle])
