"""What a sampled step says: magnitudes, zeros, histograms, weight norms and update ratios, from the elements read.

Shape legend: P parameters, G layer groups, M largest magnitudes, W weight norm pieces, S gradient elements,
T weight elements, B exponent bins.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..frames import Part, Runs, SampleFrame, StepFrame, Table
from ..records import EXPONENT_HIGH, EXPONENT_LOW, NUM_EXPONENT_BINS, GradientSample

__all__ = ["gradient_sample"]

_Floats = npt.NDArray[np.float64]
_Columns = npt.NDArray[np.floating]
"""As a slot holds them: float32 on the CPU, float64 where a parameter is or on CUDA."""
_NUM_CODES = NUM_EXPONENT_BINS + 1
"""The bins, and one for what is in none."""


def gradient_sample(frame: StepFrame, scale: float) -> GradientSample:
    """Return the sample of a step whose gradients were multiplied by `scale`."""
    table, num_parameters = frame.table, len(frame.table.names)
    collected = _Collected(table)
    for sample in frame.samples_taken:
        with np.errstate(all="ignore"):  # a sum over infinities of both signs is NaN, as it is meant
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
        self._add_gradient(columns["gradient"], sample.gradient_runs, scale)
        pieces_W = columns["weight_pieces"].astype(np.float64)
        self.norm_squares_P += np.bincount(sample.weight_owner_W, weights=pieces_W**2, minlength=size)
        if sample.has_update:
            self._add_update(columns["weight"], columns["update"], sample.weight_runs)

    def add_statistics(self, part: Part, scale: float) -> None:
        """Take exact means, zero ratios and largest magnitudes from a pass over all elements on the device."""
        index_N = part.layout.parameter_index_N
        _, max_abs_N, num_zero_N, _, sum_N = part.values.read()["statistics"].reshape(-1, len(index_N))
        num_elements_N = self._table.num_elements_P[index_N]
        self.max_abs_P[index_N] = max_abs_N / scale
        self.mean_P[index_N] = sum_N / num_elements_N / scale
        self.zero_P[index_N] = num_zero_N / num_elements_N

    def _add_gradient(self, gradient_S: _Columns, runs: Runs, scale: float) -> None:
        if not len(gradient_S):
            return
        table, size, owner_S = self._table, len(self._table.names), runs.owner_S
        self.num_P[runs.owner_R] += runs.num_R
        self.sum_P[runs.owner_R] += runs.sums(gradient_S) / scale
        magnitude_S = np.abs(gradient_S)
        # zeros and subnormals are rare in most gradients: what is small is found first, and sorted out then
        small = np.flatnonzero(magnitude_S <= table.smallest_normal_P.max())
        is_zero = magnitude_S[small] == 0
        is_subnormal = ~is_zero & (magnitude_S[small] < table.smallest_normal_P[owner_S[small]])
        num_zero_P = np.bincount(owner_S[small[is_zero]], minlength=size)
        self.num_zero_P += num_zero_P
        self.num_subnormal_P += np.bincount(owner_S[small[is_subnormal]], minlength=size)
        num_nonfinite = self._add_histogram(magnitude_S, owner_S, num_zero_P, scale)
        counted_S = magnitude_S if num_nonfinite == 0 else magnitude_S[np.isfinite(magnitude_S)]
        self.sum_abs += float(counted_S.sum(dtype=np.float64)) / scale

    def _add_histogram(
        self, magnitude_S: _Columns, owner_S: npt.NDArray[np.int64], num_zero_P: npt.NDArray[np.int64], scale: float
    ) -> int:
        """Count magnitudes by layer and exponent and return how many are NaN or infinite, which are in no bin."""
        table, num_layers = self._table, len(self._table.layers)
        values_S = magnitude_S if scale == 1.0 else np.divide(magnitude_S, scale, dtype=np.float64)
        bin_S = _bins(values_S)
        bin_S += (table.layer_index_P * _NUM_CODES)[owner_S]
        counts_GC = np.bincount(bin_S, minlength=num_layers * _NUM_CODES).reshape(num_layers, _NUM_CODES)
        self.histogram_GB += counts_GC[:, :NUM_EXPONENT_BINS]
        self.histogram_GB[:, 0] -= np.bincount(table.layer_index_P, num_zero_P, num_layers).astype(np.int64)
        return int(counts_GC[:, NUM_EXPONENT_BINS].sum())

    def _add_update(self, weight_T: _Columns, update_T: _Columns, runs: Runs) -> None:
        if not len(weight_T):
            return
        share_R = self._table.num_elements_P[runs.owner_R] / runs.num_R  # each sampled element stands for this many
        self.update_squares_P[runs.owner_R] += runs.sums(np.square(update_T, dtype=np.float64)) * share_R
        self.weight_squares_P[runs.owner_R] += runs.sums(np.square(weight_T, dtype=np.float64)) * share_R
        self.has_update_P[runs.owner_R] = True


def _bins(magnitude_S: _Columns) -> npt.NDArray[np.int64]:
    """Return the exponent bin of each magnitude by the exponent field of IEEE 754: a third of what frexp costs.

    Zero and subnormals have the field 0, which is in bin 0; NaN and infinity get `NUM_EXPONENT_BINS`.
    """
    is_double = magnitude_S.dtype == np.float64
    field_S = (magnitude_S.view(np.int64) >> 52) if is_double else (magnitude_S.view(np.int32) >> 23)
    bins_S: npt.NDArray[np.int64] = (_DOUBLE_BINS if is_double else _SINGLE_BINS)[field_S]
    return bins_S


def _bins_by_field(bias: int) -> npt.NDArray[np.int64]:
    exponents = np.arange(2 * bias + 2) - bias
    bins = np.clip(exponents - EXPONENT_LOW, -1, EXPONENT_HIGH - EXPONENT_LOW) + 1
    bins[-1] = NUM_EXPONENT_BINS
    return bins.astype(np.int64)


_SINGLE_BINS, _DOUBLE_BINS = _bins_by_field(127), _bins_by_field(1_023)


def _by_layer(table: Table, values_P: npt.NDArray[np.float64 | np.int64 | np.bool_]) -> _Floats:
    return np.bincount(table.layer_index_P, weights=values_P, minlength=len(table.layers)).astype(
        np.float64, copy=False
    )


def _largest_by_layer(table: Table, values_P: _Floats) -> _Floats:
    largest_G = np.full(len(table.layers), np.nan)
    np.fmax.at(largest_G, table.layer_index_P, values_P)  # NaN stands for not known
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
