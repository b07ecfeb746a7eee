"""The range of a loss: its level and spread over a window of its own history, and the bounds that follow."""

from __future__ import annotations

import itertools
import math
import statistics
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from ..records import Floats

__all__ = ["DivergingRule", "LossBounds", "LossSpikeRule"]

_WINDOW_STEPS = 100
_BLOCK_STEPS = 10
"""Steps at whose end the bounds change, and whose median is the level."""
_MAX_STALE_BLOCKS = 10
"""Blocks for which the bounds may wait where no loss comes near them."""
_SPIKE_WARMUP_STEPS = 50
"""Half a window: the maximum of fewer says little of a heavy tail."""
_MAD_TO_SIGMA = 1.4826
_LARGEST_LOG = 50.0
"""Keeps a bound finite where losses vary by tens of orders."""


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


class LossBounds:
    """The losses of one optimizer over a window, and their bounds: those of the last block's end.

    They are worked out when a loss comes near them, `_MAX_STALE_BLOCKS` later at the latest. Memory: 120 floats.
    """

    def __init__(self, spike: LossSpikeRule | None, diverging: DivergingRule | None) -> None:
        self._spike, self._diverging = spike, diverging
        self._losses: deque[float] = deque(maxlen=_WINDOW_STEPS + _BLOCK_STEPS)
        self._num_losses = self._num_stale = 0
        self._safe = math.inf
        """What the bounds of the last block's end are not below, whatever came since they were worked out."""
        self._lowest = math.inf
        self._ratio = 0.0
        """Bound of a divergence, as of the last block's end."""
        self.median = self.first = self.highest = math.nan
        """Of the window; at the start; the highest level so far."""
        self.spike = self.diverge = math.inf
        """What a spike and a divergence exceed."""
        self.last = math.nan

    def is_above(self, loss: float) -> bool:
        """Whether a loss exceeds a bound; the bounds are those of the last block's end afterwards where it may."""
        if self._num_stale and not 0 < loss <= self._safe:
            self._renew()
        return loss > self.spike or loss > self.diverge

    def take(self, loss: float, ratio: float) -> None:
        """Take in a loss; `ratio` is the bound of a divergence."""
        self._keep(loss)
        if self._num_losses % _BLOCK_STEPS == 0 or self._num_losses == 2:
            self._ratio = ratio
            self._end_block()

    def take_calm(self, losses: Iterable[float | None]) -> list[float]:
        """Take in and return the losses before the last one of a block, and before the first that is near a bound."""
        num_left = _BLOCK_STEPS - 1 - self._num_losses % _BLOCK_STEPS if self._num_losses >= _BLOCK_STEPS else 0
        highest = self._safe if self._num_stale else min(self.spike, self.diverge)
        lowest = 0.0 if self._num_stale else -math.inf
        calm: list[float] = []
        for loss in itertools.islice(losses, num_left):
            if loss is None or not lowest < loss <= highest or not math.isfinite(loss):
                break
            calm.append(loss)
        for loss in calm:
            self._keep(loss)
        return calm

    def _keep(self, loss: float) -> None:
        self._lowest = min(self._lowest, loss)
        self._losses.append(min(loss, self.spike, self.diverge))  # an anomaly must not become the measure of the next
        self._num_losses += 1
        self.last = loss

    def _begin(self) -> None:
        """Take the bound from the first two losses: only what runs away from them exceeds it."""
        if self._lowest > 0 and self._diverging is not None:
            self.highest = max(self._losses)
            self.diverge = 25 * self._ratio * self.highest

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
        self._safe = min(self.spike, self.diverge)  # where a rule is off, or its ratio has just risen
        if self._diverging is not None:
            self._safe = min(self._safe, self.highest * self._ratio)
        if self._spike is not None:
            self._safe = min(self._safe, self._spike.first_ratio * abs(self.first))

    def _renew(self) -> None:
        """Have the bounds be those of the last block's end."""
        losses = list(self._losses)[: len(self._losses) - self._num_losses % _BLOCK_STEPS]
        is_first = self._num_losses == _BLOCK_STEPS
        ends = range(len(losses) - _BLOCK_STEPS * (self._num_stale - 1), len(losses) + 1, _BLOCK_STEPS)
        levels = [statistics.median(losses[end - _BLOCK_STEPS : end]) for end in ends]
        self._num_stale = 0
        if is_first:
            self.first = levels[-1]
        ordered_N = np.sort(losses[-_WINDOW_STEPS:])
        lowest, median, highest = (float(ordered_N[place]) for place in (0, len(ordered_N) // 2, -1))
        sigma, self.median = _spread(ordered_N), median
        log_sigma = _spread(np.log(ordered_N)) if self._lowest > 0 else 0.0
        if self._spike is not None and sigma == 0:  # most are the same (rewards that seldom come): no scale to judge by
            self.spike = math.inf
        elif self._spike is not None and self._num_losses >= _SPIKE_WARMUP_STEPS:
            height = max(self._spike.max_ratio * (highest - median), self._spike.z_score * sigma)
            self.spike = max(median + height, self._spike.first_ratio * abs(self.first))
            if self._lowest > 0:
                margin = min(self._spike.log_z_score * log_sigma, _LARGEST_LOG)
                self.spike = max(self.spike, median * math.exp(margin))
        if self._diverging is not None:
            self.highest = levels[0] if is_first else self.highest
            self._bound_divergence(self._diverging, levels, sigma, log_sigma, highest - lowest)

    def _bound_divergence(
        self, rule: DivergingRule, levels: Sequence[float], sigma: float, log_sigma: float, spread: float
    ) -> None:
        if self._lowest > 0:
            rise = rule.rise_per_100_steps ** (_BLOCK_STEPS / 100)
            for level in levels:
                self.highest = max(self.highest, min(level, self.highest * rise))
            margin = min(rule.z_score * log_sigma, _LARGEST_LOG)
            self.diverge = self.highest * max(self._ratio, math.exp(margin))
            return
        if sigma == 0:  # as for spikes: no scale to judge by
            self.diverge = math.inf
            return
        spread = max(spread, abs(self.first))
        self.highest = max(self.highest, min(levels[-1], self.highest + spread))
        self.diverge = self.highest + rule.signed_ratio * spread


def _spread(ordered_N: Floats) -> float:
    """Return the robust standard deviation of values that are in order."""
    middle = len(ordered_N) // 2
    with np.errstate(over="ignore"):
        return _MAD_TO_SIGMA * float(np.sort(np.abs(ordered_N - ordered_N[middle]))[middle])
