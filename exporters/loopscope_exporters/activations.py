"""The series of activations, by groups of activation modules.

Shape legend: A calls of activation modules.
"""

from __future__ import annotations

import math
from itertools import islice

import numpy as np
import numpy.typing as npt

from loopscope.catalog import MAX_ACTIVATIONS
from loopscope.records import ActivationTable, Floats

from .points import Labels, Point, Points, clean

__all__ = ["ActivationSeries"]


class ActivationSeries:
    """The latest sampled activations of one agent; not thread-safe."""

    def __init__(self) -> None:
        self._table: ActivationTable | None = None

    def add(self, table: ActivationTable | None) -> None:
        """Take the activations of a step, None where it was not sampled."""
        self._table = table or self._table

    def collect(self, labels: Labels, points: Points) -> None:
        """Add the points of this moment: means over units and elements of a group."""
        table = self._table
        if table is None:
            return
        num_elements_A = table.num_units_A * table.num_rows_A
        columns = {
            "loopscope.activation.dead_ratio": _means(table, table.lasting_dead_ratio_A, table.num_units_A),
            "loopscope.activation.saturated_ratio": _means(table, table.saturated_ratio_A, num_elements_A),
            "loopscope.activation.root_mean_square": np.sqrt(_means(table, table.mean_squares_A, num_elements_A)),
        }
        for name, values in columns.items():
            for layer, value in islice(zip(table.layers, values.tolist(), strict=True), MAX_ACTIVATIONS):
                if not math.isnan(value):
                    points[name].append(Point({**labels, "activation": clean(layer)}, value))


def _means(table: ActivationTable, values_A: Floats, weights_A: npt.NDArray[np.int64]) -> Floats:
    """Return the weighted mean of each group, NaN where nothing is known of it."""
    is_known_A, size = ~np.isnan(values_A), len(table.layers)
    weights_A = np.where(is_known_A, weights_A, 0)
    sums = np.bincount(table.layer_index_A, np.where(is_known_A, values_A, 0.0) * weights_A, size)
    totals = np.bincount(table.layer_index_A, weights_A, size)
    means: Floats = np.divide(sums, totals, out=np.full(size, np.nan), where=totals > 0)
    return means
