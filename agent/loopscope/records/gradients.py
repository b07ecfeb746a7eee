"""The gradient statistics of one step, columnar.

Shape legend: P parameters of one optimizer, G layer groups among them, B exponent bins.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from .light import light

__all__ = [
    "EXPONENT_HIGH",
    "EXPONENT_LOW",
    "NUM_EXPONENT_BINS",
    "Flags",
    "Floats",
    "GradientSample",
    "GradientTable",
    "Integers",
]

Floats: TypeAlias = npt.NDArray[np.float64]
Integers: TypeAlias = npt.NDArray[np.int64]
Flags: TypeAlias = npt.NDArray[np.bool_]

EXPONENT_LOW = -64
"""Magnitudes below 2**EXPONENT_LOW (zero excepted) share the first bin of a histogram."""
EXPONENT_HIGH = 32
"""Magnitudes of 2**EXPONENT_HIGH and more share the last bin of a histogram."""
NUM_EXPONENT_BINS = EXPONENT_HIGH - EXPONENT_LOW + 2
"""Bin 0 is below 2**LOW, bin 1 + i covers [2**(LOW + i), 2**(LOW + i + 1)), the last is 2**HIGH and above."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GradientSample:
    """What is read every k steps only, one row a parameter; a value that is not known is NaN.

    `max_abs` and `weight_norms` are exact. Means, zero ratios, subnormal ratios and histograms are exact where
    `is_exact` holds (every element was read) and estimates from a strided sample elsewhere.
    """

    is_exact_P: Flags
    num_sampled_P: Integers
    max_abs_P: Floats
    mean_P: Floats
    zero_ratio_P: Floats
    subnormal_ratio_P: Floats
    """Share of elements, zeros left out, that lie below the smallest normal number of the gradient's dtype."""
    weight_norms_P: Floats
    update_ratios_P: Floats
    """L2 norm of the update over L2 norm of the weights, both on the same sample of elements."""
    max_abs_G: Floats
    zero_ratio_G: Floats
    weight_norms_G: Floats
    update_ratios_G: Floats
    histogram_GB: Integers
    """Sampled elements by base-2 exponent; zeros and non-finite elements are in no bin."""
    sum_abs: float
    """Sum of the magnitudes in the histogram."""


@light
@dataclass(frozen=True, slots=True, kw_only=True)
class GradientTable:
    """Gradient statistics of one optimizer at one step, columnar. A gradient that is None has the norm NaN.

    Norms are L2 norms of the gradient that the optimizer applies: unscaled, accumulated over the micro-steps,
    reduced over the ranks under DDP, after clipping. `scope` says `full`, or `local_shard` under FSDP2.
    """

    layers: tuple[str, ...]
    names: tuple[str, ...]
    layer_index_P: Integers
    """Index into `layers` of each parameter."""
    norms: Floats
    """[P], NaN where there was no gradient."""
    layer_norms: Floats
    """[G], NaN where no parameter of the layer had a gradient."""
    global_norm: float
    global_norm_pre_clip: float | None
    """None where nothing clipped."""
    num_nonfinite: Integers
    """[P] NaN or infinite elements; a lower bound where `is_nonfinite_count_exact` is False."""
    is_nonfinite_count_exact: bool
    scope: str = "full"
    num_unreadable: int = 0
    """Gradients that cannot be read without a sync (uncoalesced sparse on CUDA), NaN in `norms`."""
    frozen: tuple[int, ...] = ()
    """Indices of the parameters with `requires_grad` False, as of the last sampled step."""
    sample: GradientSample | None = None
    has_nonfinite: bool = field(init=False)
    """Whether any gradient holds NaN or infinity."""

    def __post_init__(self) -> None:
        """Count once what every step is asked for by many."""
        object.__setattr__(self, "has_nonfinite", bool(np.count_nonzero(self.num_nonfinite)))

    @property
    def is_nonfinite(self) -> Flags:
        """[P] whether the parameter's gradient holds NaN or infinity."""
        return self.num_nonfinite > 0

    @property
    def layer_num_nonfinite(self) -> Integers:
        """[G] NaN or infinite elements by layer."""
        return np.bincount(self.layer_index_P, weights=self.num_nonfinite, minlength=len(self.layers)).astype(np.int64)

    @property
    def nonfinite_layers(self) -> tuple[str, ...]:
        """Layers with a NaN or infinite gradient, in the order of the model's parameters."""
        return tuple(layer for layer, count in zip(self.layers, self.layer_num_nonfinite, strict=True) if count)
