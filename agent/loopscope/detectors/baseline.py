"""The range of each layer's gradient norm: robust levels of its own history on a logarithmic scale, and the bounds.

Shape legend: C columns (the global norm, then G layer groups), W steps of the window.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from ..records import Floats

__all__ = ["Baseline", "ExplodingRule", "SpikeRule"]

_BLOCK_STEPS = 16
"""Steps at whose end the baseline changes: 1/16 of what medians of every step would cost at the most."""
_WINDOW_STEPS = 64
"""Steps of the baseline: 64 give the median absolute deviation to some 12 % (its standard error is 0.98 / sqrt(n))."""
_MAX_STALE_BLOCKS = 8
"""Blocks for which the baseline may wait."""
_KEPT_STEPS = (_MAX_STALE_BLOCKS + 1) * _BLOCK_STEPS
"""The rows of blocks that wait, the window of the last one's end among them, are whole until the end of the next."""
_MAD_TO_SIGMA = 1.4826
"""Of a normal distribution: Rousseeuw and Croux 1993, doi:10.1080/01621459.1993.10476408."""
_SMALLEST = 1e-300
"""Stands for a norm of zero, whose logarithm would be minus infinity."""
_LAYER_MARGIN = math.log(3.0)
"""What a layer's norm has to exceed the whole gradient's by, its highest level or the window's maximum."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplodingRule:
    """Bounds of `exploding_gradient`."""

    ratio: float = 30.0
    """Norm over the highest level so far. Healthy runs stayed below 20 for steps in a row; faults began at 100."""
    z_score: float = 4.0
    """The same in robust standard deviations of the log norm, so that noisy objectives need a larger rise."""
    warmup_ratio: float = 100.0
    """Norm over the larger one of the first two steps, in the first 16, while there is no baseline."""
    weight_ratio: float = 1e5
    """Gradient norm over weight norm at which no history is needed. Sums over unscaled targets reach 1e3 to 1e4."""
    critical_ratio: float = 1e4
    """Norm over the highest level so far at which the incident is critical."""
    rise_per_100_steps: float = 10.0
    """How fast the highest level may follow: gradients of healthy runs grow by 10 to 30 as they leave the start."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpikeRule:
    """Bounds of `gradient_spike`."""

    z_score: float = 6.0
    """Robust standard deviations of the log norm above the window's median (SageMaker's StepOutlier has 3 sigma)."""
    ratio: float = 30.0
    """Norm over the window's median. Healthy runs reached 24 for a step (full batches at the edge of stability)."""
    max_ratio: float = 10.0
    """Norm over the window's maximum: an instability builds up over a few steps, and noise has heavy tails."""


class Baseline:
    """The norms of one optimizer's layers over a window, and the bounds that follow from them.

    The bounds are those of the last 16 steps' end. They are worked out when a norm comes near them, every 128 steps at
    the latest: most steps need no more than one comparison with what the bounds cannot fall below. Until the 16th step
    there is only the one of an explosion, from the first two. Memory: (144 + 6) * C float64.
    """

    block_steps = _BLOCK_STEPS

    def __init__(self, num_columns: int, exploding: ExplodingRule | None, spike: SpikeRule | None) -> None:
        self._exploding, self._spike = exploding or ExplodingRule(), spike or SpikeRule()
        self._rows_KC = np.zeros((_KEPT_STEPS, num_columns))
        self._num_rows = self._num_stale = 0
        self._safe_C = np.full(num_columns, np.inf)
        """What the bounds of the last block's end are not below, to rounding, whatever came since they were taken."""
        self.highest_C = np.full(num_columns, np.nan)
        """Highest level so far, which follows a rise slowly."""
        self.median_C = np.full(num_columns, np.nan)
        self.explode_C, self.spike_C, self.bound_C = (np.full(num_columns, np.inf) for _ in range(3))
        """What an explosion and a spike exceed, and the smaller one of the two."""

    def next_row(self) -> Floats:
        """Return the row that the next step's norms are to be written to."""
        row_C: Floats = self._rows_KC[self._num_rows % _KEPT_STEPS]
        return row_C

    def is_above(self, row_C: Floats) -> bool:
        """Whether a norm exceeds its bound; the bounds are those of the last block's end afterwards where it may be."""
        if not np.count_nonzero(row_C > self._safe_C):
            return False
        self.renew()
        return bool(np.count_nonzero(row_C > self.bound_C))

    def take_row(self) -> None:
        """Take in the row that was written."""
        self._num_rows += 1
        if self.is_at_end:
            self._end_block()

    def take_calm(self, rows_NC: Floats) -> int:
        """Take in the rows before the first one that comes near a bound, up to the end of the block; return how many.

        None are before there is a baseline.
        """
        rows_NC = rows_NC[: self.num_left] if self._num_rows >= _BLOCK_STEPS else rows_NC[:0]
        is_near_NC = rows_NC > self._safe_C
        size = int(is_near_NC.any(axis=1).argmax()) if np.count_nonzero(is_near_NC) else len(rows_NC)
        begin = self._num_rows % _KEPT_STEPS  # which are whole blocks: no block goes over their end
        self._rows_KC[begin : begin + size] = rows_NC[:size]
        self._num_rows += size
        if size and self.is_at_end:
            self._end_block()
        return size

    @property
    def num_left(self) -> int:
        """Rows up to the end of the block."""
        return _BLOCK_STEPS - self._num_rows % _BLOCK_STEPS

    @property
    def is_at_end(self) -> bool:
        """Whether the row that was taken in last is the last one of its block."""
        return self._num_rows % _BLOCK_STEPS == 0 or self._num_rows == 2

    def renew(self) -> None:
        """Have the bounds be those of the last block's end."""
        if self._num_stale:
            self._renew(self._num_rows - self._num_rows % _BLOCK_STEPS)
            self._safe_C = self.bound_C

    def is_sudden(self, row_C: Floats) -> bool:
        """Whether the step is a spike, and nothing of the kind was there since the bounds were taken."""
        largest_C = self._rows(self._num_rows - self._num_rows % _BLOCK_STEPS, self._num_rows).max(axis=0, initial=0.0)
        return bool((row_C > np.maximum(self.spike_C, largest_C * self._spike.max_ratio)).any())

    def _rows(self, begin: int, end: int) -> Floats:
        """Return the rows of these steps, which are not to be written to."""
        first, size = begin % _KEPT_STEPS, end - begin
        rows_WC = self._rows_KC[first : first + size]
        if len(rows_WC) < size:
            rows_WC = np.concatenate((rows_WC, self._rows_KC[: size - len(rows_WC)]))
        return rows_WC

    def _end_block(self) -> None:
        if self._num_rows == 2:
            self._begin()
            return
        self._num_stale += 1
        if self._num_rows == _BLOCK_STEPS or self._num_stale == _MAX_STALE_BLOCKS:
            self.renew()
            return
        # Neither does the highest level fall, nor does the window of a later block leave this one's largest out.
        largest_C = self._rows(self._num_rows - _BLOCK_STEPS, self._num_rows).max(axis=0)
        with np.errstate(over="ignore"):
            safe_C = np.minimum(self.highest_C * self._exploding.ratio, largest_C * self._spike.max_ratio)
        self._safe_C = np.where(np.isnan(safe_C), -np.inf, safe_C)

    def _begin(self) -> None:
        """Take the bounds from the first two steps."""
        self.highest_C = np.fmax.reduce(np.maximum(self._rows_KC[:2], _SMALLEST), axis=0)
        self.explode_C = np.maximum(self.highest_C, self.highest_C[0]) * self._exploding.warmup_ratio
        self.bound_C = self._safe_C = np.where(np.isnan(self.explode_C), np.inf, self.explode_C)

    def _renew(self, end: int) -> None:
        """Take the baseline of the steps before `end` anew, and with it the bounds."""
        exploding, spike = self._exploding, self._spike
        num_waiting = self._num_stale * _BLOCK_STEPS
        logs_CK = np.array(
            self._rows(max(end - max(num_waiting, _WINDOW_STEPS), 0), end).T, order="C"
        )  # sorted by rows
        np.log(np.maximum(logs_CK, _SMALLEST, out=logs_CK), out=logs_CK)
        logs_CW = logs_CK[:, -_WINDOW_STEPS:]
        median_C, sigma_C = _center_and_spread(logs_CW)
        highest_C = self._highest(logs_CK[:, -num_waiting:], is_first=end == _BLOCK_STEPS)
        self._num_stale = 0
        margin_C = np.maximum(math.log(exploding.ratio), exploding.z_score * sigma_C)
        explode_C = np.maximum(highest_C + margin_C, highest_C[0] + _LAYER_MARGIN)
        spike_C = median_C + np.maximum(math.log(spike.ratio), spike.z_score * sigma_C)
        largest_C = np.fmax.reduce(logs_CW, axis=1)
        spike_C = np.maximum(spike_C, largest_C + math.log(spike.max_ratio))
        spike_C = np.maximum(spike_C, largest_C[0] + _LAYER_MARGIN)
        with np.errstate(over="ignore"):
            self.highest_C, self.median_C = np.exp(highest_C), np.exp(median_C)
            self.explode_C, self.spike_C = _bound(explode_C), _bound(spike_C)
        self.bound_C = np.minimum(self.explode_C, self.spike_C)

    def _highest(self, logs_CN: Floats, *, is_first: bool) -> Floats:
        """Return the logarithm of the highest level after the blocks of these rows, the last one's among them."""
        levels_BC = _median(logs_CN.reshape(len(logs_CN), -1, _BLOCK_STEPS)).T
        if is_first:
            level_C: Floats = levels_BC[0]
            return level_C
        rise = math.log(self._exploding.rise_per_100_steps) * _BLOCK_STEPS / 100
        highest_C: Floats = np.log(np.maximum(self.highest_C, _SMALLEST))
        for level_C in levels_BC:
            # A layer that wakes up, as at the end of a plateau, may come to the level of the whole at once.
            reach_C = np.fmax(highest_C, highest_C[0]) + rise
            highest_C = np.fmax(highest_C, np.fmin(level_C, reach_C))
        return highest_C


def _center_and_spread(logs_CW: Floats) -> tuple[Floats, Floats]:
    """Return median and robust standard deviation of each row, the latter 0.1 (10 %) at the least."""
    median_C = _median(logs_CW)
    return median_C, np.fmax(_MAD_TO_SIGMA * _median(np.abs(logs_CW - median_C[:, None])), 0.1)


def _median(values: Floats) -> Floats:
    """Return the upper median along the last axis; NaN where most are: they sort last."""
    median: Floats = np.sort(values)[..., values.shape[-1] // 2]
    return median


def _bound(logs_C: Floats) -> Floats:
    return np.where(np.isnan(logs_C), np.inf, np.exp(logs_C))
