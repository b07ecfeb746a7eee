"""One optimizer step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from .activations import ActivationTable
from .activity import SyncCount
from .events import Event
from .gradients import GradientTable
from .hooks import HookCount, HookSilence
from .light import light
from .nonfinite import NonfiniteOrigin

__all__ = ["StepReport"]


@light
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
    syncs: tuple[SyncCount, ...] = ()
    """What waited for the device since the step before, by kind and line; operators on sampled steps only."""
    activations: ActivationTable | None = None
    """What activation modules put out, on sampled steps, where that was asked for."""
    hooks: tuple[HookCount | HookSilence, ...] = ()
    """What the last audit of the model's hooks found: those that have become more, and those that do not run."""
    origin: NonfiniteOrigin | None = None
    """Where a loss that became NaN or infinite began, on the first such step; None where that is not known."""
    pauses: Mapping[str, float] = field(default_factory=dict)
    """What held the process up: seconds of `garbage_collection`, counts of `allocator_retry`; empty without any."""
    batch: int | None = None
    """Index of the step's last batch within the pass of its DataLoader, None without one."""
    memory_bytes: int | None = None
    """Resident memory of the process, mapped files left out, as the report was made; None where none was read: it is
    once for each batch of reports, and twenty times a second at the most.
    """
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
