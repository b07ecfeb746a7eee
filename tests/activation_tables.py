"""What activation modules put out, made up for tests."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from loopscope.records import ActivationTable

__all__ = ["activation_table"]


def activation_table(num_groups: int = 2) -> ActivationTable:
    """Return what two groups of activation modules put out in three calls; further groups have a call each."""
    more = range(num_groups - 2)

    def column(*values: float) -> npt.NDArray[np.float64]:
        return np.array([*values, *(0.5 for _ in more)])

    return ActivationTable(
        names=("stem.act[0]", "stem.act[1]", "body.act", *(f"group{index}" for index in more)),
        modules=("stem.act", "stem.act", "body.act", *(f"group{index}" for index in more)),
        types=("ReLU", "ReLU", "Tanh", *("ReLU" for _ in more)),
        layers=("stem.act", "body.act", *(f"group{index}" for index in more)),
        layer_index_A=np.array([0, 0, 1, *(2 + index for index in more)]),
        num_units_A=np.array([10, 30, 5, *(1 for _ in more)]),
        num_rows_A=np.array([32, 32, 64, *(1 for _ in more)]),
        dead_ratio_A=column(0.5, 0.25, math.nan),
        lasting_dead_ratio_A=column(0.4, 0.2, math.nan),
        saturated_ratio_A=column(math.nan, math.nan, 0.75),
        norms_A=column(4.0, 9.0, 16.0),
        mean_squares_A=column(0.0625, 0.25, 4.0),
        is_output_A=np.array([False, False, True, *(False for _ in more)]),
        num_unseen=1,
        num_functional=2,
    )
