"""What a sampled step says: magnitudes, zeros, histograms, weight norms and update ratios, from the elements read.

Shape legend: P parameters, G layer groups, M largest magnitudes, W weight norm pieces, S gradient elements,
T weight elements, B exponent bins.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..frames import Part, SampleFrame, StepFrame, Table
from ..records import EXPONENT_HIGH, EXPONENT_LOW, NUM_EXPONENT_BINS, GradientSample

__all__ = ["gradient_sample"]

_Floats = npt.NDArray[np.float64]


def gradient_sample(frame: StepFrame, scale: float) -> GradientSample:
    """Return the sample of a step whose gradients were multiplied by `scale`."""
    table, num_parameters = frame.table, len(frame.table.names)
    collected = _Collected(table)
    for sample in frame.samples_taken:
        collected.add(sample, scale)
    for part in frame.parts:
        if part.has_statistics:
            collected.add_statistics(part, scale)
    num_P, weighted = collected.num_P, collected
    with np.errstate(all="ignore"):
        is_known_P = num_P > 0
        mean_P = np.where(np.isnan(collected.mean_P), _where(is_known_P, weighted.sum_P / num_P), collected.mean_P)
        zero_P = np.where(np.isnan(collected.zero_P), _where(is_known_P, weighted.num_zero_P / num_P), collected.zero_P)
        subnormal_P = _where(is_known_P, weighted.num_subnormal_P / num_P)
        update_P = _where(collected.has_update_P, np.sqrt(weighted.update_squares_P / weighted.weight_squares_P))
        elements_P = table.num_elements_P
        update_G = np.sqrt(_by_layer(table, weighted.update_squares_P) / _by_layer(table, weighted.weight_squares_P))
        known_elements_P = elements_P * is_known_P
        zero_G = _by_layer(table, np.nan_to_num(zero_P) * known_elements_P) / _by_layer(table, known_elements_P)
    return (
        GradientSample(
            is_exact_P=num_P >= elements_P,
            num_sampled_P=num_P.astype(np.int64),
            max_abs_P=collected.max_abs_P,
            mean_P=mean_P,
            zero_ratio_P=zero_P,
            subnormal_ratio_P=subnormal_P,
            weight_norms_P=np.sqrt(collected.norm_squares_P),
            update_ratios_P=_finite(update_P),
            max_abs_G=_largest_by_layer(table, collected.max_abs_P),
            zero_ratio_G=zero_G,
            weight_norms_G=np.sqrt(_by_layer(table, collected.norm_squares_P)),
            update_ratios_G=_finite(_where(_by_layer(table, collected.has_update_P.astype(float)) > 0, update_G)),
            histogram_GB=collected.histogram_GB,
            sum_abs=collected.sum_abs,
        )
        if num_parameters
        else _nothing(table)
    )


class _Collected:
    """Sums over the elements read, device by device."""

    def __init__(self, table: Table) -> None:
        self._table, size = table, len(table.names)
        self.num_P, self.sum_P, self.num_zero_P, self.num_subnormal_P = (np.zeros(size) for _ in range(4))
        self.update_squares_P, self.weight_squares_P, self.norm_squares_P = (np.zeros(size) for _ in range(3))
        self.max_abs_P, self.mean_P, self.zero_P = (np.full(size, np.nan) for _ in range(3))
        self.has_update_P = np.zeros(size, dtype=bool)
        self.histogram_GB = np.zeros((len(table.layers), NUM_EXPONENT_BINS), dtype=np.int64)
        self.sum_abs = 0.0

    def add(self, sample: SampleFrame, scale: float) -> None:
        columns, size = sample.values.read(), len(self._table.names)
        self.max_abs_P[sample.max_abs_owner_M] = columns["max_abs"].astype(np.float64) / scale
        self._add_gradient(columns["gradient"].astype(np.float64), sample.gradient_owner_S, scale)
        pieces_W = columns["weight_pieces"].astype(np.float64)
        self.norm_squares_P += np.bincount(sample.weight_owner_W, weights=pieces_W**2, minlength=size)
        if sample.has_update:
            self._add_update(
                columns["weight"].astype(np.float64), columns["update"].astype(np.float64), sample.weight_owner_T
            )

    def add_statistics(self, part: Part, scale: float) -> None:
        """Take exact means, zero ratios and largest magnitudes from a pass over all elements on the device."""
        index_N = part.layout.parameter_index_N
        _, max_abs_N, num_zero_N, _, sum_N = part.values.read()["statistics"].reshape(-1, len(index_N))
        num_elements_N = self._table.num_elements_P[index_N]
        self.max_abs_P[index_N] = max_abs_N / scale
        self.mean_P[index_N] = sum_N / num_elements_N / scale
        self.zero_P[index_N] = num_zero_N / num_elements_N

    def _add_gradient(self, gradient_S: _Floats, owner_S: npt.NDArray[np.int64], scale: float) -> None:
        size = len(self._table.names)
        magnitude_S = np.abs(gradient_S)
        is_finite_S = np.isfinite(gradient_S)
        is_zero_S = gradient_S == 0
        is_subnormal_S = (magnitude_S < self._table.smallest_normal_P[owner_S]) & ~is_zero_S
        self.num_P += np.bincount(owner_S, minlength=size)
        self.sum_P += np.bincount(owner_S, weights=gradient_S, minlength=size) / scale
        self.num_zero_P += np.bincount(owner_S, weights=is_zero_S, minlength=size)
        self.num_subnormal_P += np.bincount(owner_S, weights=is_subnormal_S, minlength=size)
        is_binned_S = is_finite_S & ~is_zero_S
        values, layer = magnitude_S[is_binned_S] / scale, self._table.layer_index_P[owner_S[is_binned_S]]
        exponent = np.frexp(values)[1] - 1  # values lie in [2**exponent, 2**(exponent + 1))
        index = np.clip(exponent - EXPONENT_LOW, -1, EXPONENT_HIGH - EXPONENT_LOW) + 1
        counts = np.bincount(layer * NUM_EXPONENT_BINS + index, minlength=self.histogram_GB.size)
        self.histogram_GB += counts.reshape(self.histogram_GB.shape)
        self.sum_abs += float(values.sum())

    def _add_update(self, weight_T: _Floats, update_T: _Floats, owner_T: npt.NDArray[np.int64]) -> None:
        size = len(self._table.names)
        num_P = np.bincount(owner_T, minlength=size)
        share_P = self._table.num_elements_P / np.maximum(num_P, 1)  # each sampled element stands for this many
        self.update_squares_P += np.bincount(owner_T, weights=update_T**2, minlength=size) * share_P
        self.weight_squares_P += np.bincount(owner_T, weights=weight_T**2, minlength=size) * share_P
        self.has_update_P |= num_P > 0


def _by_layer(table: Table, values_P: npt.NDArray[np.float64 | np.int64 | np.bool_]) -> _Floats:
    return np.bincount(table.layer_index_P, weights=values_P, minlength=len(table.layers)).astype(
        np.float64, copy=False
    )


def _largest_by_layer(table: Table, values_P: _Floats) -> _Floats:
    largest_G = np.full(len(table.layers), np.nan)
    for index, value in zip(table.layer_index_P, values_P, strict=True):
        if np.isnan(largest_G[index]) or value > largest_G[index]:
            largest_G[index] = value
    return largest_G


def _where(is_known: npt.NDArray[np.bool_], values: _Floats) -> _Floats:
    return np.where(is_known, values, np.nan)


def _finite(values: _Floats) -> _Floats:
    """A ratio to weights that are all zero is not known."""
    return np.where(np.isfinite(values), values, np.nan)


def _nothing(table: Table) -> GradientSample:
    empty, layers = np.zeros(0), np.full(len(table.layers), np.nan)
    return GradientSample(
        is_exact_P=empty.astype(bool),
        num_sampled_P=empty.astype(np.int64),
        max_abs_P=empty,
        mean_P=empty,
        zero_ratio_P=empty,
        subnormal_ratio_P=empty,
        weight_norms_P=empty,
        update_ratios_P=empty,
        max_abs_G=layers,
        zero_ratio_G=layers,
        weight_norms_G=layers,
        update_ratios_G=layers,
        histogram_GB=np.zeros((len(table.layers), NUM_EXPONENT_BINS), dtype=np.int64),
        sum_abs=0.0,
    )
