"""Framer: makes the frame of a step from what is known on the host, and hands it over or counts it as dropped."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.optim import Optimizer

from ..bus import Bus
from ..frames import ActivationFrame, Clip, SampleFrame, StepFrame, Timeline
from ..notes import Note
from ..probes.gradients import Reading
from .logged import Logged
from .losses import LossSum
from .sources import Carry, Source

__all__ = ["Framer", "Micro", "Sampler", "StepFacts"]

_MAX_CLIPS = 4
_MAX_RATE_TENSORS = 8
_MAX_REMEMBERED = 16


@dataclass(slots=True)
class _ClipCall:
    parameter_ids: tuple[int, ...]
    max_norm: float
    total_norm: Tensor


@dataclass(slots=True)
class Micro:
    """The backward passes since the last step, and who has taken them."""

    num_backwards: int = 0
    taken_by: set[Source] = field(default_factory=set)
    unscaled: set[Source] = field(default_factory=set)
    is_stepped: bool = False
    is_frozen: bool = False
    """Further closure calls of a step: their losses are evaluations on the way, not the step's loss."""
    scale: Tensor | None = None
    clips: list[_ClipCall] = field(default_factory=list)

    @property
    def is_taken(self) -> bool:
        """Whether a step, ours or not, or a hand-written skip has used these backwards up."""
        return self.is_stepped or bool(self.taken_by)


@dataclass(slots=True)
class StepFacts:
    """What the clock says of a step."""

    epoch: int
    batch: int | None
    duration_seconds: float | None
    phases: dict[str, float]
    num_samples: int
    skipped: str | None
    timeline: Timeline | None


class Sampler(Protocol):
    """Who looks at what happens before a sampled step: it has to know at the end of the step before it."""

    spent_ns: int
    """What it has taken since this was last set to 0."""

    def end(self) -> tuple[ActivationFrame, ...]:
        """End a sample and return what it brought, with slots that are to be released."""

    def begin(self) -> None:
        """Begin one; a second call goes on with it."""


class Framer:
    """Builds step frames; keeps which parameters a clip call covers, so that a loop that clips alike pays once."""

    def __init__(
        self, bus: Bus, spent_ns: Callable[[], int], take_notes: Callable[[], Sequence[Note]], *, has_labels: bool
    ) -> None:
        self._bus, self._spent_ns, self._take_notes = bus, spent_ns, take_notes
        self._has_labels = has_labels
        self._first: Source | None = None
        self._dropped: tuple[Source, StepFrame] | None = None
        self._spent_before_ns = 0
        self._covers: dict[tuple[object, ...], npt.NDArray[np.int64] | None] = {}
        self._loss: float | None = None
        """Of the step under way, where it is on the host."""
        self.logged = Logged()
        self.sampler: Sampler | None = None
        self._sampled: Source | None = None
        """For whose next step the sampler is at work."""
        self._is_sampling = self._has_sampled = False
        self.num_dropped = 0
        """Of all optimizers, those that are gone included."""

    def note_clip(self, micro: Micro, parameters: Sequence[Tensor], max_norm: float, total_norm: Tensor) -> None:
        """Remember a clip call until its step; no reference to a parameter is kept."""
        if not micro.num_backwards or len(micro.clips) >= _MAX_CLIPS:
            return
        micro.clips.append(_ClipCall(tuple(map(id, parameters)), max_norm, total_norm.detach().clone()))

    def note_loss(self, losses: LossSum) -> Tensor | None:
        """Take the loss into the frame to come where it is on the host; return it where it is on a device."""
        self._loss = losses.number
        return losses.value

    def forget_loss(self) -> None:
        """Leave it out: the step that it was of has come to nothing."""
        self._loss = None

    def scalars(self, source: Source, optimizer: Optimizer | None, micro: Micro, losses: LossSum) -> dict[str, Tensor]:
        """Return the one-element tensors whose values are to come back with the gradients of this step."""
        loss = self.note_loss(losses)
        scalars: dict[str, Tensor] = {} if loss is None else {"loss": loss}
        if micro.scale is not None:
            scalars["grad_scale"] = micro.scale
        found_inf, divisor = getattr(optimizer, "found_inf", None), getattr(optimizer, "grad_scale", None)
        if isinstance(found_inf, Tensor):  # a fused optimizer under GradScaler: it unscales and skips inside its kernel
            scalars["found_inf"] = found_inf
        elif micro.scale is not None and source not in micro.unscaled:
            divisor = micro.scale
        if isinstance(divisor, Tensor):
            scalars["unscale"] = divisor
        for i, clip in enumerate(micro.clips):
            scalars[f"clip_norm_{i}"] = clip.total_norm
        for i, group in enumerate(optimizer.param_groups[:_MAX_RATE_TENSORS] if optimizer is not None else ()):
            if isinstance(group.get("lr"), Tensor):
                scalars[f"learning_rate_{i}"] = group["lr"]
        return scalars

    def frame(
        self, source: Source, optimizer: Optimizer | None, micro: Micro, reading: Reading, facts: StepFacts
    ) -> StepFrame:
        """Return the frame of a step; what was dropped before it is in its counts."""
        carry, source.carry = source.carry, Carry()
        spent_ns = self._spent_ns()
        overhead_seconds, self._spent_before_ns = (spent_ns - self._spent_before_ns) / 1e9, spent_ns
        is_step = facts.skipped is None
        self._first = self._first or source
        assert source.table is not None
        frame = StepFrame(
            optimizer=source.label if self._has_labels or source is not self._first else None,
            table=source.table,
            epoch=facts.epoch,
            micro_steps=micro.num_backwards,
            time_unix_seconds=time.time(),
            duration_seconds=facts.duration_seconds,
            phases=facts.phases,
            samples=facts.num_samples or None,
            learning_rates=_learning_rates(optimizer),
            skipped=facts.skipped,
            timeline=facts.timeline,
            loss=self._loss,
            batch=facts.batch,
            parts=reading.parts,
            clips=tuple(
                [
                    Clip(parameter_index=self._coverage(clip, source, optimizer), max_norm=clip.max_norm)
                    for clip in micro.clips
                ]
            ),
            overhead_seconds=overhead_seconds,
            num_steps=carry.num_steps + is_step,
            num_skipped=carry.num_skipped,
            num_micro_steps=carry.num_micro_steps + micro.num_backwards,
            num_samples=carry.num_samples + facts.num_samples,
            num_tokens=carry.num_tokens,
            notes=(*carry.notes, *self._take_notes()),
        )
        self._loss = None
        if self.sampler is not None and is_step:
            self._end_sample(self.sampler, source, frame)
        if facts.skipped is not None:
            frame.num_skipped[facts.skipped] = frame.num_skipped.get(facts.skipped, 0) + 1
        return frame

    def send(self, source: Source, frame: StepFrame, reading: Reading, samples: tuple[SampleFrame, ...]) -> None:
        """Hand the frame over, or carry its counts to the next one where no slot was free."""
        frame.samples_taken, frame.is_sampled = samples, bool(samples)
        self.logged.give_to(frame)
        self.logged = Logged()
        if self.sampler is not None:
            self._begin_sample(self.sampler, source)
        if reading.is_dropped:
            self.num_dropped += 1
            source.carry, self._dropped = _carry(frame), (source, frame)
            _release(frame)
        else:
            self._dropped = None
            self._bus.put(frame)

    def _begin_sample(self, sampler: Sampler, source: Source) -> None:
        """Begin for the step to come where it is a sampled one; the first is the second step of all.

        On the first one much is compiled, in which nothing of the sampler's may be.
        """
        is_due = not self._has_sampled or source.budget.will_be_due(source.num_steps + 1)
        if self._is_sampling or source.reference is None or not is_due:
            return
        self._is_sampling, self._has_sampled, self._sampled = True, True, source
        sampler.begin()

    def _end_sample(self, sampler: Sampler, source: Source, frame: StepFrame) -> None:
        owner = self._sampled
        is_gone = owner is not None and owner.reference is not None and owner.reference() is None
        if self._is_sampling and (owner is source or is_gone):
            self._is_sampling, frame.activations = False, sampler.end()
            source.sample_ns, sampler.spent_ns = source.sample_ns + sampler.spent_ns, 0

    def log_late(self, logged: Logged) -> None:
        """Give values to the step that has just ended, held or dropped, else to the next one."""
        held = self._bus.held
        if self._dropped is not None:
            source, frame = self._dropped
            logged.give_to(frame)
            source.carry = _carry(frame)
            _release(frame)
        elif held is not None:
            logged.give_to(held)
        else:
            self.logged.add(logged)

    def go_on(self) -> None:
        """Let go of the step that has ended: the loop is at the next one."""
        self._dropped = None
        self._bus.release_held()

    def _coverage(self, clip: _ClipCall, source: Source, optimizer: Optimizer | None) -> npt.NDArray[np.int64] | None:
        key = (clip.parameter_ids, source.label, source.num_tables)
        if key not in self._covers:
            _make_room(self._covers)
            parameters = (
                [p for group in optimizer.param_groups for p in group["params"]] if optimizer is not None else []
            )
            clipped = frozenset(clip.parameter_ids)
            covered = np.array([id(parameter) in clipped for parameter in parameters], dtype=bool)
            self._covers[key] = None if covered.all() else np.flatnonzero(covered)
        return self._covers[key]


def _carry(frame: StepFrame) -> Carry:
    return Carry(
        frame.num_steps, frame.num_micro_steps, frame.num_samples, frame.num_tokens, frame.num_skipped, frame.notes
    )


def _learning_rates(optimizer: Optimizer | None) -> tuple[float | None, ...]:
    if optimizer is None:
        return ()
    rates = [group.get("lr") for group in optimizer.param_groups]
    return tuple([None if rate is None or isinstance(rate, torch.Tensor) else float(rate) for rate in rates])


def _make_room(memory: dict[Any, Any]) -> None:
    while len(memory) >= _MAX_REMEMBERED:
        memory.pop(next(iter(memory)))


def _release(frame: StepFrame) -> None:
    """Give back the slots of a frame that the worker will never see."""
    for values in (each.values for each in frame.logged_parts), (each.values for each in frame.activations):
        for slot in values:
            slot.release()
    frame.logged_parts, frame.activations = (), ()
