"""Loop: the state machine that turns what the probes see into one frame a step and one mark an epoch."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from ..bus import Bus
from ..config import Config
from ..frames import EpochMark, SampleFrame
from ..hooks import num_wrapper_frames
from ..notes import Note
from ..probes.gradients import Reading
from .clock import Clock
from .device_clock import DeviceClock
from .framing import Framer, Micro, Sampler, StepFacts
from .in_backward import InBackward
from .logged import LogReader
from .losses import LossSum
from .passes import Passes
from .sources import Names, Source, Sources

__all__ = ["Loop"]


class Loop:
    """Listens to the probes of one agent on the training thread; its results leave by the bus.

    A backward counts for every optimizer that steps before the next backward: two optimizers that share a backward
    both report its loss. Nested backwards and what other threads do are left out.
    """

    def __init__(
        self,
        config: Config,
        names: Names,
        sources: Sources,
        bus: Bus,
        *,
        spent_ns: Callable[[], int],
        take_notes: Callable[[], Sequence[Note]],
    ) -> None:
        self._names, self._sources, self._bus, self._spent_ns = names, sources, bus, spent_ns
        self._framer = Framer(bus, spent_ns, take_notes, has_labels=sources.num_given > 1)
        self._clock = Clock()
        self._device_clock = DeviceClock()
        self._passes = Passes(config.initial_epoch, config.steps_per_epoch)
        self._losses = LossSum()
        self._log_reader = LogReader()
        self._micro = Micro()
        self._in_backward = InBackward(names, config)
        self._reading = Reading()
        self._depth = 0
        self._depth_thread: int | None = None
        self._has_closure = False
        self._thread: int | None = None
        self._start_ns = time.perf_counter_ns()

    @property
    def num_dropped(self) -> int:
        """Reports dropped because the worker was behind."""
        return self._framer.num_dropped

    @property
    def sample_interval(self) -> int:
        """The largest interval between samples among the optimizers, in steps."""
        return max((source.budget.interval for source in self._sources.all()), default=1)

    def sample_with(self, sampler: Sampler) -> None:
        """Have `sampler` look at what happens before sampled steps."""
        self._framer.sampler = sampler

    def note_worker(self, cpu_seconds: float) -> None:
        """Take in what worker and server have cost since attach, for the budget."""
        sources = self._sources.all()
        num_steps = sum(source.num_steps for source in sources)
        for source in sources if num_steps else ():
            source.budget.note_elsewhere(cpu_seconds / num_steps)

    # backward passes

    def backward_began(self, roots: tuple[Tensor, ...], scale: Tensor | None) -> Callable[[], None] | None:
        """See BackwardListener."""
        if self._depth and self._depth_thread == threading.get_ident() and num_wrapper_frames() <= 1:
            self._depth = 0  # a Ctrl-C took the end of the last backward away
            self._in_backward.forget()
        if self._depth or not self._is_training_thread():
            return None
        self._framer.go_on()
        if self._micro.is_taken:
            self._micro = Micro()
        if not self._micro.num_backwards:
            self._losses.reset()
        self._micro.scale = scale
        if not self._micro.is_frozen:
            self._losses.add(roots, scale)
        self._passes.backward_began()
        self._device_clock.mark("backward", roots[0].device if roots else None)
        self._clock.backward_began(time.perf_counter_ns())
        self._depth_thread = threading.get_ident()
        self._depth += 1  # last: what comes before may fail, and then nobody counts it down
        return self._backward_ended

    def _backward_ended(self) -> None:
        self._depth -= 1
        self._micro.num_backwards += 1
        self._clock.backward_ended(time.perf_counter_ns())
        self._device_clock.mark("backward_end")
        if self._in_backward.has_steps:
            source = self._in_backward.source
            source.begin_ns = self._clock.outside_ns(time.perf_counter_ns())
            self._finish(source, None, self._in_backward.collect(self._framer.note_loss(self._losses)), None)

    def gradients_unscaled(self, optimizer: Optimizer) -> None:
        """See BackwardListener."""
        source = self._sources.of(optimizer)
        if source is not None:
            self._micro.unscaled.add(source)

    def gradients_clipped(self, parameters: Sequence[Tensor], max_norm: float, total_norm: Tensor) -> None:
        """See ClippingListener."""
        if self._is_training_thread():
            self._framer.note_clip(self._micro, parameters, max_norm, total_norm)

    # optimizer steps

    def step_began(self, optimizer: Optimizer, *, has_closure: bool) -> bool:
        """See OptimizerListener."""
        source = self._sources.of(optimizer)
        if source is None:
            self._micro.is_stepped |= self._is_training_thread()  # the backward was somebody else's
            return False
        if self._depth:
            self._in_backward.add(optimizer)
            return False
        self._thread = threading.get_ident()
        self._abandon(source)
        source.begin_ns = self._clock.outside_ns(time.perf_counter_ns())
        micro = self._micro
        if source in micro.taken_by or (has_closure and (micro.is_taken or micro.is_frozen)):
            self._micro = Micro()  # those backwards, and their loss, were another step's
            self._losses.reset()
        self._has_closure = has_closure
        if has_closure:
            self._clock.step_began(time.perf_counter_ns())
        return True

    def _abandon(self, source: Source) -> None:
        """Give back what a step that raised has left behind."""
        for part in self._reading.parts:
            part.values.release()
        self._reading, source.pending = Reading(), ()
        self._framer.forget_loss()

    def gradients_final(self, optimizer: Optimizer) -> None:
        """See OptimizerListener."""
        source = self._sources.of(optimizer)
        if source is None:
            return
        self._micro.is_frozen = self._has_closure
        is_due = source.budget.is_due(source.num_steps)
        parameters = source.parameters(optimizer, self._names)
        if is_due:
            source.check_identity(optimizer, self._names)
        self._reading = source.reader.read(parameters, self._scalars(source, optimizer), thorough=is_due)
        if is_due and not self._reading.is_dropped:
            spent_ns = time.perf_counter_ns()
            source.pending = source.samples.before_update(parameters)
            source.sample_ns = time.perf_counter_ns() - spent_ns
        self._device_clock.mark("optimizer")

    def step_ended(self, optimizer: Optimizer) -> None:
        """See OptimizerListener."""
        source = self._sources.of(optimizer)
        if source is not None and not self._depth:
            self._finish(source, optimizer, self._reading, None)

    def step_skipped(self, optimizer: Optimizer) -> None:
        """See OptimizerListener."""
        source = self._sources.of(optimizer)
        if source is not None:
            self._skip(source, optimizer, "grad_scaler")

    def gradients_zeroing(self, owner: Optimizer | torch.nn.Module, *, is_in_step: bool) -> None:
        """See OptimizerListener."""
        micro = self._micro
        if self._depth or not micro.num_backwards or micro.is_stepped or not self._is_training_thread():
            return
        for source, optimizer in self._sources.under(owner):
            if is_in_step and not micro.is_frozen:
                self._micro = Micro()  # the closure begins anew, after an evaluation that raised, say
            elif not is_in_step and source not in micro.taken_by:
                if source.has_gradients:
                    self._skip(source, optimizer, "manual")
                elif not any(other.has_gradients for other in self._sources.all()):
                    self._micro = Micro()  # the backward raised before it had filled any

    def _skip(self, source: Source, optimizer: Optimizer, reason: str) -> None:
        self._abandon(source)
        source.begin_ns = self._clock.outside_ns(time.perf_counter_ns())
        reading = source.reader.read(source.parameters(optimizer, self._names), self._scalars(source, optimizer))
        self._finish(source, optimizer, reading, reason)

    def _scalars(self, source: Source, optimizer: Optimizer) -> dict[str, Tensor]:
        return self._framer.scalars(source, optimizer, self._micro, self._losses)

    def _finish(self, source: Source, optimizer: Optimizer | None, reading: Reading, skipped: str | None) -> None:
        now_ns = time.perf_counter_ns()
        if skipped is None and self._passes.step_begins():
            self._mark_epoch()
        samples_before = source.lap.num_samples
        duration, phases = self._clock.step_ended(source.lap, self._clock.outside_ns(now_ns) - source.begin_ns, now_ns)
        num_samples = source.lap.num_samples - samples_before
        facts = StepFacts(*self._passes.position, duration, phases, num_samples, skipped, self._device_clock.take())
        frame = self._framer.frame(source, optimizer, self._micro, reading, facts)
        samples = self._take_sample(source, optimizer, skipped) if optimizer is not None else ()
        self._reading = Reading()
        self._framer.send(source, frame, reading, samples)
        self._note_cost(source, duration, frame.overhead_seconds)
        source.num_steps += 1
        self._micro.taken_by.add(source)
        self._micro.is_stepped |= skipped != "manual"
        if skipped is None and self._passes.step_ended(source if optimizer is None else optimizer):
            self._mark_epoch()

    def _take_sample(self, source: Source, optimizer: Optimizer, skipped: str | None) -> tuple[SampleFrame, ...]:
        pending, source.pending = source.pending, ()
        if not pending:
            return ()
        start_ns = time.perf_counter_ns()
        parameters = source.parameters(optimizer, self._names)
        frames = source.samples.after_update(pending, parameters, has_update=skipped is None)
        source.sample_ns += time.perf_counter_ns() - start_ns
        source.budget.note_sample(source.num_steps, source.sample_ns / 1e9)
        return frames

    def _note_cost(self, source: Source, duration_seconds: float | None, overhead_seconds: float) -> None:
        sampled_seconds, source.sample_ns = source.sample_ns / 1e9, 0
        if duration_seconds:
            base_seconds = max(overhead_seconds - sampled_seconds, 0.0)
            bare_seconds = max(duration_seconds - overhead_seconds, 1e-9)
            source.budget.note_step(step_seconds=bare_seconds, base_seconds=base_seconds)

    # batches and epochs

    def batch_requested(self, iterator: object, *, is_first: bool) -> Callable[[int | None, bool], None]:
        """See LoaderListener."""
        self._framer.go_on()
        requested_ns, identity = time.perf_counter_ns(), id(iterator)
        if self._passes.batch_requested(iterator, is_first=is_first):
            self._mark_epoch()
        self._clock.batch_requested(identity, requested_ns, is_first=is_first)

        def arrived(num_samples: int | None, has_ended: bool) -> None:
            if self._passes.batch_arrived(iterator, has_ended=has_ended):
                self._mark_epoch()
            now_ns = time.perf_counter_ns()
            if has_ended:
                self._clock.pass_ended(identity, now_ns)
            else:
                self._clock.batch_arrived(identity, requested_ns, now_ns, num_samples)
                self._device_clock.mark("arrival")

        return arrived

    def _mark_epoch(self) -> None:
        self._bus.put(EpochMark(epoch=self._passes.epoch - 1, time_unix_seconds=time.time()))

    # what the user says

    def log(self, values: Mapping[str, Any], samples: int | None, tokens: int | None) -> None:
        """Give values to the step that has just ended, or, once a backward has begun, to the one under way."""
        logged = self._log_reader.read(values, samples, tokens)
        if self._micro.num_backwards and not self._micro.is_taken:
            self._framer.logged.add(logged)
        else:
            self._framer.log_late(logged)

    def mark_epoch(self) -> None:
        """End the epoch by hand; from now on only such marks end epochs."""
        self._framer.go_on()
        if self._passes.mark():
            self._mark_epoch()

    def end(self) -> None:
        """Close the epoch under way, at detach."""
        self._framer.go_on()
        if self._passes.is_in_epoch:
            self._passes.mark()
            self._mark_epoch()
        self._bus.put(EpochMark(epoch=self._passes.epoch, time_unix_seconds=time.time(), is_run_end=True))

    def _is_training_thread(self) -> bool:
        return self._thread is None or self._thread == threading.get_ident()
