"""The records that leave the training thread: frozen, slotted, made of plain values and numpy, without torch.

Shape legend: P parameters of one optimizer, G layer groups among them, B exponent bins.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = [
    "EXPONENT_HIGH",
    "EXPONENT_LOW",
    "NUM_EXPONENT_BINS",
    "EpochReport",
    "Event",
    "GradientSample",
    "GradientTable",
    "LayerStatistics",
    "Record",
    "RunInfo",
    "SelfReport",
    "StepReport",
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
class RunInfo:
    """What is known once, at attach: the first record that an exporter sees."""

    run: str
    agent: str
    rank: int | None
    time_unix_seconds: float
    model: str
    num_parameters: int
    """Parameter tensors watched."""
    num_elements: int
    """Scalars in those tensors."""
    layers: tuple[str, ...]
    layer_ranks: Mapping[str, int]
    """Position of each layer group in the order of the model's parameters: the forward order where the two agree."""
    initial_step: int
    initial_epoch: int
    versions: Mapping[str, str]
    settings: Mapping[str, object]
    host: str
    pid: int


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
    sample: GradientSample | None = None

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened at a step and that a person may act on."""

    kind: str
    severity: str
    step: int
    epoch: int
    message: str
    remedy: str
    layer: str | None = None
    site: str | None = None
    value: float | None = None
    threshold: float | None = None
    first_cause: bool = False
    attributes: Mapping[str, object] = field(default_factory=dict)
    run: str = ""
    agent: str = ""
    rank: int | None = None
    optimizer: str | None = None
    time_unix_seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class StepReport:
    """One optimizer step, or one that did not happen: `skipped` says why, `step` is the number it would have had."""

    run: str
    agent: str
    rank: int | None
    optimizer: str | None
    """None where the agent watches a single optimizer."""
    step: int
    epoch: int
    micro_steps: int
    time_unix_seconds: float
    duration_seconds: float | None
    phases: Mapping[str, float]
    """Seconds of data_wait, forward, backward, optimizer and other: together the duration, nearly so on a device."""
    phases_clock: str
    """`host`, or `device` where forward, backward and optimizer were measured by CUDA events."""
    loss: float | None
    loss_source: str | None
    """`backward` (summed over the micro-steps, unscaled) or `log`."""
    samples: int | None
    tokens: int | None
    learning_rates: tuple[float, ...]
    """One a parameter group."""
    gradients: GradientTable | None
    skipped: str | None = None
    """None, `grad_scaler` or `manual`."""
    grad_scale: float | None = None
    events: tuple[Event, ...] = ()
    overhead_seconds: float = 0.0
    """What our hooks took of this step on the training thread."""
    num_steps: int = 1
    """Optimizer steps that this report stands for: 1, and more after reports were dropped."""
    num_skipped: Mapping[str, int] = field(default_factory=dict)
    """Skipped steps that this report stands for, by reason."""
    num_micro_steps: int = 1
    """Micro-steps that this report stands for."""
    num_samples: int = 0
    num_tokens: int = 0
    """Samples and tokens that this report stands for; 0 where they are not known."""
    logged: Mapping[str, float] = field(default_factory=dict)
    """Further values given to `agent.log`."""

    @property
    def samples_per_second(self) -> float | None:
        """Samples over the step's duration, None where either is not known."""
        return self.samples / self.duration_seconds if self.samples is not None and self.duration_seconds else None

    @property
    def tokens_per_second(self) -> float | None:
        """Tokens over the step's duration, None where either is not known."""
        return self.tokens / self.duration_seconds if self.tokens is not None and self.duration_seconds else None


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


@dataclass(frozen=True, slots=True, kw_only=True)
class SelfReport:
    """What the agent says of itself, about once a second; counters count from attach."""

    run: str
    agent: str
    rank: int | None
    time_unix_seconds: float
    overhead_ratio: float | None
    """Our CPU time (hooks, worker, server) over the loop's own time, None before the first step."""
    overhead_seconds: Mapping[str, float]
    """By part: hooks, worker, server."""
    dropped_reports: int
    internal_errors: Mapping[str, int]
    """By part."""
    disabled_parts: tuple[str, ...]
    sample_interval_steps: int
    """Every how many steps a GradientSample is taken."""
    process_memory_bytes: int | None
    process_cpu_seconds: float | None


Record: TypeAlias = RunInfo | StepReport | EpochReport | Event | SelfReport
