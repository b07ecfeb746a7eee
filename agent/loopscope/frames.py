"""What the training thread hands to the worker: plain values, and slots whose numbers arrive later.

Shape legend: P parameters of one optimizer, N of them on one device, W norm pieces (a large parameter
has several), S sampled elements, A calls of activation modules.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from .notes import Note

__all__ = [
    "ActivationFrame",
    "ActivationSites",
    "Clip",
    "EpochMark",
    "Frame",
    "Layout",
    "Notes",
    "Part",
    "Runs",
    "SampleFrame",
    "StepFrame",
    "Table",
    "Timeline",
    "Values",
]


class Values(Protocol):
    """Numbers on their way from the device: `read` may be called once `is_ready`, `release` gives the slot back."""

    def is_ready(self) -> bool:
        """Whether the copy from the device has ended; never waits."""

    def read(self) -> Mapping[str, npt.NDArray[np.floating]]:
        """Return the slot's columns by name, views that are valid until `release`."""

    def release(self) -> None:
        """Give the slot back to its ring."""


class Timeline(Protocol):
    """The phases of a step on their way from the device."""

    def is_ready(self) -> bool:
        """Whether the device has passed the end of the step; never waits."""

    def phases(self) -> Mapping[str, float]:
        """Return seconds by phase on the device's clock."""

    def release(self) -> None:
        """Give the events back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """The parameters of one optimizer and their layer groups, made once and replaced when they change."""

    layers: tuple[str, ...]
    names: tuple[str, ...]
    layer_index_P: npt.NDArray[np.int64]
    num_elements_P: npt.NDArray[np.int64]
    smallest_normal_P: npt.NDArray[np.float64]
    """Smallest normal number of each gradient's dtype."""
    frozen: tuple[int, ...] = ()
    """Indices of the parameters that ask for no gradient."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Which parameters the columns of a slot belong to; N of them are on the slot's device."""

    parameter_index_N: npt.NDArray[np.int64]
    owner_W: npt.NDArray[np.int64]
    """Parameter of each norm piece."""
    num_unreadable: int = 0
    scope: str = "full"
    is_plain: bool = False
    """Whether there is one piece for each of the optimizer's parameters, in their order."""


@dataclass(slots=True, kw_only=True)
class Part:
    """What came from one device: columns norm_pieces [W], num_nonfinite [N], exact_norm [N], carried [W], scalars.

    With `has_statistics` there is the column statistics [K * N] instead (norm, largest magnitude, zeros, non-finite
    elements, sum), exact for every parameter. `has_counts` says that num_nonfinite is exact for every parameter,
    `rechecked` for which rows of N exact_norm replaces the norm pieces, `has_carried` that carried holds the
    non-finite pieces of dropped steps.
    """

    values: Values
    layout: Layout
    scalars: tuple[str, ...] = ()
    has_counts: bool = False
    rechecked: tuple[int, ...] = ()
    has_carried: bool = False
    has_statistics: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Runs:
    """Whose the elements of a sample are; those of a parameter lie together: R runs, by where they begin."""

    owner_S: npt.NDArray[np.int64]
    owner_R: npt.NDArray[np.int64]
    start_R: npt.NDArray[np.int64]
    num_R: npt.NDArray[np.int64]

    @classmethod
    def of(cls, owner_S: npt.NDArray[np.int64]) -> Runs:
        """Return the runs of sampled elements by the parameters that they belong to."""
        start_R = np.flatnonzero(np.diff(owner_S, prepend=-1))
        return cls(
            owner_S=owner_S, owner_R=owner_S[start_R], start_R=start_R, num_R=np.diff(start_R, append=len(owner_S))
        )

    def sums(self, values_S: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
        """Return the sum of each run in float64 [R]."""
        sums_R: npt.NDArray[np.float64] = np.add.reduceat(values_S, self.start_R, dtype=np.float64)
        return sums_R


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleFrame:
    """What was sampled on one device: columns max_abs [M], weight_pieces [W], gradient [S], weight and update [T]."""

    values: Values
    max_abs_owner_M: npt.NDArray[np.int64]
    weight_owner_W: npt.NDArray[np.int64]
    gradient_runs: Runs
    weight_runs: Runs
    """Of weight and update."""
    has_update: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivationSites:
    """Whose calls the rows of an ActivationFrame are: see ActivationTable."""

    names: tuple[str, ...]
    modules: tuple[str, ...]
    types: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivationFrame:
    """What activation modules on one device put out: columns dead, lasting, flat (shares) and square, each [A]."""

    values: Values
    sites: ActivationSites
    num_units_A: npt.NDArray[np.int64]
    num_rows_A: npt.NDArray[np.int64]
    num_elements_A: npt.NDArray[np.int64]
    has_dead_A: npt.NDArray[np.bool_]
    has_flat_A: npt.NDArray[np.bool_]
    is_output_A: npt.NDArray[np.bool_]
    num_unseen: int = 0
    num_functional: int | None = None
    num_left_out: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Clip:
    """One call of clip_grad_norm_; the scalar clip_norm_i holds the norm it clipped by."""

    parameter_index: npt.NDArray[np.int64] | None
    """Parameters clipped, None for all of the optimizer."""
    max_norm: float


@dataclass(slots=True, kw_only=True)
class StepFrame:
    """One step, or one that did not happen, as the training thread saw it."""

    optimizer: str | None
    table: Table
    epoch: int
    micro_steps: int
    time_unix_seconds: float
    duration_seconds: float | None
    phases: dict[str, float]
    samples: int | None
    learning_rates: tuple[float | None, ...]
    """None where the rate is a tensor, whose value comes with the slot."""
    skipped: str | None
    timeline: Timeline | None
    """The device's own clock, None on the CPU."""
    loss: float | None = None
    """As the backward has it, where that is on the CPU; elsewhere it is among the scalars of `parts`."""
    batch: int | None = None
    """Index of the last batch within its pass."""
    parts: tuple[Part, ...]
    """One a device; among their scalars are loss, found_inf, grad_scale, unscale, learning_rate_i and clip_norm_i."""
    clips: tuple[Clip, ...] = ()
    samples_taken: tuple[SampleFrame, ...] = ()
    activations: tuple[ActivationFrame, ...] = ()
    is_sampled: bool = False
    tokens: int | None = None
    logged: dict[str, float] = field(default_factory=dict)
    logged_parts: tuple[Part, ...] = ()
    """Values that the user logged as tensors of a device; their scalars win over `logged`."""
    overhead_seconds: float = 0.0
    num_steps: int = 1
    num_skipped: dict[str, int] = field(default_factory=dict)
    num_micro_steps: int = 0
    num_samples: int = 0
    num_tokens: int = 0
    notes: tuple[Note, ...] = ()
    """What the probes of syncs and compilations have noted since the step before, of all optimizers."""

    def take_over(self, lost: StepFrame) -> None:
        """Stand for the steps of a frame before this one as well, which brought no report."""
        self.num_steps += lost.num_steps
        self.num_micro_steps += lost.num_micro_steps
        self.num_samples += lost.num_samples
        self.num_tokens += lost.num_tokens
        self.notes = (*lost.notes, *self.notes)
        for reason, count in lost.num_skipped.items():
            self.num_skipped[reason] = self.num_skipped.get(reason, 0) + count

    @property
    def has_rare_slots(self) -> bool:
        """Whether it holds slots of which there are only a few, beside those that every step has."""
        return bool(self.samples_taken or self.logged_parts or self.activations)

    def pending(self) -> list[Values | Timeline]:
        """Everything that is on its way from a device, to be waited for and then released."""
        waited_for: list[Values | Timeline] = [part.values for part in self.parts]
        for more in (self.logged_parts, self.samples_taken, self.activations):
            if more:
                waited_for += [each.values for each in more]
        if self.timeline is not None:
            waited_for.append(self.timeline)
        return waited_for


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochMark:
    """The end of an epoch, or of the run, between two steps."""

    epoch: int
    time_unix_seconds: float
    is_run_end: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Notes:
    """What was noted outside the steps: before a flush, at the end, in a process that takes no steps at all."""

    notes: tuple[Note, ...]
    """In the order of the probes."""
    time_unix_seconds: float


Frame = StepFrame | EpochMark | Notes
