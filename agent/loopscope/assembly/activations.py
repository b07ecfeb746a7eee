"""What activation modules put out at a sampled step, as a table.

Shape legend: A calls of activation modules.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np

from ..catalog import MAX_ACTIVATIONS
from ..frames import ActivationFrame
from ..groups import LayerPlan, plan_layers
from ..records import ActivationTable, Floats

__all__ = ["activation_table"]


def activation_table(frames: Sequence[ActivationFrame]) -> ActivationTable | None:
    """Return the table of one step from a frame a device, None without any."""
    if not frames:
        return None
    modules = tuple(module for frame in frames for module in frame.sites.modules)
    plan = _plan(modules)
    has_dead_A = np.concatenate([frame.has_dead_A for frame in frames])
    has_flat_A = np.concatenate([frame.has_flat_A for frame in frames])
    square_A, num_elements_A = _column(frames, "square"), np.concatenate([frame.num_elements_A for frame in frames])
    return ActivationTable(
        names=tuple(name for frame in frames for name in frame.sites.names),
        modules=modules,
        types=tuple(each for frame in frames for each in frame.sites.types),
        layers=plan.layers,
        layer_index_A=plan.index_P,
        num_units_A=np.concatenate([frame.num_units_A for frame in frames]),
        num_rows_A=np.concatenate([frame.num_rows_A for frame in frames]),
        dead_ratio_A=np.where(has_dead_A, _column(frames, "dead"), np.nan),
        lasting_dead_ratio_A=np.where(has_dead_A, _column(frames, "lasting"), np.nan),
        saturated_ratio_A=np.where(has_flat_A, _column(frames, "flat"), np.nan),
        norms_A=np.sqrt(square_A),
        mean_squares_A=square_A / num_elements_A,
        is_output_A=np.concatenate([frame.is_output_A for frame in frames]),
        num_unseen=frames[0].num_unseen,
        num_functional=frames[0].num_functional,
        num_left_out=frames[0].num_left_out,
    )


@functools.lru_cache(maxsize=8)
def _plan(modules: tuple[str, ...]) -> LayerPlan:
    return plan_layers([f"{module}.output" for module in modules], MAX_ACTIVATIONS)


def _column(frames: Sequence[ActivationFrame], name: str) -> Floats:
    return np.concatenate([frame.values.read()[name] for frame in frames]).astype(np.float64)
