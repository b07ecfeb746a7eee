"""An epoch, or a window of steps.

Shape legend: G layer groups.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from .gradients import Floats, Integers

__all__ = ["EpochReport", "LayerStatistics"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerStatistics:
    """The gradient norm of each layer group over all steps of an epoch; NaN where a layer never had a gradient.

    Mean, max and min are over every step with a finite norm. p50 and p95 are exact up to
    `epochs.MAX_EXACT_STEPS` steps and taken from an even thinning of the steps above it.
    """

    layers: tuple[str, ...]
    mean: Floats
    max: Floats
    min: Floats
    p50: Floats
    p95: Floats
    num_steps: Integers
    """[G] steps with a finite norm."""
    num_nonfinite_steps: Integers
    zero_ratio: Floats
    """[G] mean over the sampled steps, NaN where no step was sampled."""
    num_sampled_steps: int
    health: tuple[str, ...] = ()
    """[G] the worst state of each layer (`catalog.HEALTH_STATES`); empty where it had no gradient at all."""
    health_rule: tuple[str, ...] = ()
    """[G] the kind of event that decided it; empty where healthy."""
    trend: Floats = field(default_factory=lambda: np.zeros(0))
    """[G] mean over that of the epoch (or window) before; NaN where either is not known."""
    scope: str = "full"
    """`full`, or `local_shard` where the norms are those of this rank's shards (see GradientTable)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochReport:
    """An epoch (one pass of the training DataLoader) or a window of steps, over all its steps."""

    run: str
    agent: str
    rank: int | None
    optimizer: str | None
    kind: str
    """`epoch` or `window`."""
    epoch: int
    window: int | None
    """Index of the window within the epoch, None for an epoch."""
    first_step: int
    """Dropped steps before the first report included."""
    last_step: int
    num_steps: int
    num_reports: int
    """Steps whose statistics are in: `num_steps` less the dropped ones."""
    num_skipped: Mapping[str, int]
    num_micro_steps: int
    num_samples: int | None
    duration_seconds: float
    """Sum over the reports that know their duration: neither validation nor dropped steps are in it."""
    time_unix_seconds: float
    loss: float | None
    """Mean over the steps with a finite loss, weighted by samples where they are known."""
    loss_weighting: str | None
    """`samples` or `batches`."""
    num_nonfinite_losses: int
    global_norm: Mapping[str, float]
    """mean, max, min, p50 and p95 of the global gradient norm after clipping; empty without gradients."""
    num_nonfinite_steps: int
    """Steps on which any layer was NaN or infinite, skipped ones included."""
    gradients: LayerStatistics | None
    quantiles_are_exact: bool
