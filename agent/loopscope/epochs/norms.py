"""NormStatistics: mean, extremes and quantiles of gradient norms over any number of steps, in bounded memory.

Shape legend: N steps of a block, K steps kept for the quantiles, C columns (the global norm, then G layers),
S running sums.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..records import LayerStatistics

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ..records import Flags, Floats, GradientTable, Integers

__all__ = ["MAX_EXACT_STEPS", "NormBlock", "NormStatistics"]

MAX_EXACT_STEPS = 8_192
"""Steps up to which the quantiles are exact; beyond it every second step is let go, again and again."""
_BLOCK_STEPS = 256
"""Steps that are reduced in one go, which brings the cost of a step below that of one numpy call a statistic."""
_MAX_COLUMNS = 256
"""Columns of one epoch, should its layers change again and again; layers beyond it are left out."""
_SUM, _NUM_FINITE, _NUM_NONFINITE, _ZERO_SUM, _NUM_ZERO = range(5)
_GLOBAL = None


class NormBlock:
    """Rows of steps with the same layers, collected until they are reduced; NaN is what does not count."""

    def __init__(self, layers: tuple[str, ...]) -> None:
        self.layers = layers
        self.num_rows = self.num_samples = 0
        self._norms_NC = np.empty((_BLOCK_STEPS, 1 + len(layers)))
        self._zero_ratios_NC = np.full((_BLOCK_STEPS, 1 + len(layers)), np.nan)
        self.num_nonfinite_C = np.zeros(1 + len(layers))
        self.scope = "full"

    @property
    def norms(self) -> Floats:
        """[N, C] norms of the steps taken in."""
        return self._norms_NC[: self.num_rows]

    @property
    def zero_ratios(self) -> Floats:
        """[N, C] zero ratios of the sampled ones among them; the global norm has none."""
        return self._zero_ratios_NC[: self.num_samples]

    @property
    def is_full(self) -> bool:
        """Whether the block has to be cleared before the next step."""
        return self.num_rows == _BLOCK_STEPS

    def append(self, table: GradientTable, is_nonfinite_G: Flags | None) -> None:
        """Take in a step; `is_nonfinite_G` is None where all its gradients are finite."""
        row_C = self._norms_NC[self.num_rows]
        self.scope = table.scope
        row_C[0] = table.global_norm
        row_C[1:] = table.layer_norms
        if is_nonfinite_G is not None:
            row_C[~np.isfinite(row_C)] = np.nan
            self.num_nonfinite_C[1:] += is_nonfinite_G
        self.num_rows += 1
        if table.sample is not None:
            self._zero_ratios_NC[self.num_samples, 1:] = table.sample.zero_ratio_G
            self.num_samples += 1

    def clear(self) -> None:
        """Start anew with the same layers."""
        self.num_rows = self.num_samples = 0
        self.num_nonfinite_C[:] = 0


class NormStatistics:
    """Statistics over blocks, whose layers are matched by name. Memory: MAX_EXACT_STEPS * C float64 at the most."""

    def __init__(self) -> None:
        self._columns: dict[str | None, int] = {_GLOBAL: 0}
        self._sums_SC = np.zeros((5, 1))
        self._min_C = np.full(1, np.nan)
        self._max_C = np.full(1, np.nan)
        self._kept: list[Floats] = []
        self._num_rows = self._num_samples = 0
        self._scope = "full"
        self._stride = 1

    @property
    def is_exact(self) -> bool:
        """Whether the quantiles are over every step."""
        return self._stride == 1

    def take(self, block: NormBlock) -> None:
        """Take in the rows of a block, which stays as it is."""
        self._scope = block.scope
        if not block.num_rows:
            return
        source_C, target_C = self._match(block.layers)
        norms_NC = block.norms[:, source_C]
        self._add(_SUM, _NUM_FINITE, norms_NC, target_C)
        self._add(_ZERO_SUM, _NUM_ZERO, block.zero_ratios[:, source_C], target_C)
        self._sums_SC[_NUM_NONFINITE, target_C] += block.num_nonfinite_C[source_C]
        self._min_C[target_C] = np.fmin(self._min_C[target_C], np.fmin.reduce(norms_NC, axis=0))
        self._max_C[target_C] = np.fmax(self._max_C[target_C], np.fmax.reduce(norms_NC, axis=0))
        self._keep(norms_NC, target_C)
        self._num_samples += block.num_samples

    def result(self) -> tuple[Mapping[str, float], LayerStatistics | None]:
        """Return the statistics of the global norm, empty without one, and of the layers, None without gradients."""
        if not self._num_rows:
            return {}, None
        with np.errstate(invalid="ignore"):  # 0 / 0 is NaN: not known
            mean_C = self._sums_SC[_SUM] / self._sums_SC[_NUM_FINITE]
            zero_ratio_C = self._sums_SC[_ZERO_SUM] / self._sums_SC[_NUM_ZERO]
        p50_C, p95_C = _quantiles(self._rows(), (0.50, 0.95))
        columns = {"mean": mean_C, "max": self._max_C, "min": self._min_C, "p50": p50_C, "p95": p95_C}
        layers = LayerStatistics(
            layers=tuple(layer for layer in self._columns if layer is not None),
            num_steps=self._sums_SC[_NUM_FINITE, 1:].astype(np.int64),
            num_nonfinite_steps=self._sums_SC[_NUM_NONFINITE, 1:].astype(np.int64),
            zero_ratio=zero_ratio_C[1:],
            num_sampled_steps=self._num_samples,
            scope=self._scope,
            **{name: values_C[1:] for name, values_C in columns.items()},
        )
        has_global = self._sums_SC[_NUM_FINITE, 0] > 0
        return {name: float(values_C[0]) for name, values_C in columns.items() if has_global}, layers

    def _match(self, layers: tuple[str, ...]) -> tuple[Integers, Integers]:
        """Return the columns of a block with these layers and the columns here that they belong to."""
        for layer in layers:
            if len(self._columns) < _MAX_COLUMNS:
                self._columns.setdefault(layer, len(self._columns))
        num_new = len(self._columns) - len(self._min_C)
        self._sums_SC = np.pad(self._sums_SC, ((0, 0), (0, num_new)))
        self._min_C, self._max_C = (
            np.pad(values_C, (0, num_new), constant_values=np.nan) for values_C in (self._min_C, self._max_C)
        )
        names = enumerate((_GLOBAL, *layers))
        pairs = [(source, self._columns[name]) for source, name in names if name in self._columns]
        matched_2C = np.array(pairs, dtype=np.int64).T
        return matched_2C[0], matched_2C[1]

    def _add(self, sum_row: int, count_row: int, values_NC: Floats, target_C: Integers) -> None:
        is_known_NC = ~np.isnan(values_NC)
        self._sums_SC[sum_row, target_C] += np.where(is_known_NC, values_NC, 0.0).sum(axis=0)
        self._sums_SC[count_row, target_C] += is_known_NC.sum(axis=0)

    def _keep(self, norms_NC: Floats, target_C: Integers) -> None:
        """Keep every `stride`-th step since the first; double the stride when there are too many."""
        rows = norms_NC[-self._num_rows % self._stride :: self._stride]
        self._num_rows += len(norms_NC)
        kept_KC = np.full((len(rows), len(self._columns)), np.nan)
        kept_KC[:, target_C] = rows
        self._kept.append(kept_KC)
        if sum(map(len, self._kept)) > MAX_EXACT_STEPS:
            self._kept = [self._rows()[::2].copy()]
            self._stride *= 2

    def _rows(self) -> Floats:
        width = len(self._columns)
        return np.concatenate(
            [np.pad(rows, ((0, 0), (0, width - rows.shape[1])), constant_values=np.nan) for rows in self._kept]
        )


def _quantiles(rows_KC: Floats, shares: Sequence[float]) -> list[Floats]:
    """Return the quantiles of each column without its NaN, linear between neighbours as numpy.quantile; NaN of none.

    numpy.nanquantile does the same one column after the other in Python, and warns of empty ones.
    """
    sorted_KC = np.sort(rows_KC, axis=0)  # NaN last
    last_C = np.maximum(np.count_nonzero(~np.isnan(sorted_KC), axis=0) - 1, 0)
    columns_C = np.arange(rows_KC.shape[1])
    quantiles = []
    for share in shares:
        position_C = share * last_C
        low_C = position_C.astype(np.int64)
        low, high = sorted_KC[low_C, columns_C], sorted_KC[np.minimum(low_C + 1, last_C), columns_C]
        quantiles.append(low + (high - low) * (position_C - low_C))
    return quantiles
