"""Agent: the handle that attach returns; it puts the parts together and takes them apart again."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import torch

from .bus import Bus
from .config import Config
from .detectors import default_detectors
from .frames import Notes
from .guard import Guard
from .hooks import HookSet
from .loop import Loop
from .loop.sources import Names, Sources
from .notebook import Notebook
from .notes import Note
from .outlets import Outlets
from .pipeline import Pipeline
from .probing import Probing
from .records import ActivityReport, EpochReport, Event, HealthReport, SelfReport, StepReport
from .runs import run_info
from .vitals import Vitals

__all__ = ["Agent"]

_SELF_CLOSE_SECONDS = 0.9
_DETACH_SECONDS = 3.0
_FIRST_WORD_SECONDS = 0.2
"""What attach waits for the exporters to have the run's first record, so that a page says something at once."""
_WORKER_SHARE = 0.7
"""Share of that time that the worker gets; the rest is for closing the other exporters where it hangs in one."""
_logger = logging.getLogger("loopscope")


class Agent:
    """A monitor attached to one training loop; `detach` takes out exactly what attach put in.

    Usable as a context manager. All methods may be called from any thread, and none raises into the loop.
    """

    def __init__(
        self,
        name: str,
        models: Mapping[str, torch.nn.Module],
        optimizers: Mapping[str, torch.optim.Optimizer],
        config: Config,
        *,
        others: Iterable[Agent],
        on_stop: Callable[[Agent], None],
    ) -> None:
        self.name, self.config, self._on_stop = name, config, on_stop
        detectors = default_detectors(config)
        self._models = _references(models)
        self._optimizers = _references(optimizers)
        self._guard = Guard(limit=config.fault_limit, strict=config.strict)
        self._hooks = HookSet()
        self._notebook = Notebook(self._guard)
        names = Names(models, config.max_layers)
        self._info = run_info(name, models, names.plan, len(names.by_id), config)
        self._vitals = Vitals(self._info, self._guard)
        self._outlets: Outlets = Outlets.open(config, self._info, [agent._outlets for agent in others])
        self._pipeline = Pipeline(
            self._info,
            detectors,
            self._outlets.exporters,
            self._guard,
            window_steps=config.window_steps,
            report_self=self._report_self,
            read_memory=self._vitals.memory_bytes,
            breathe=self._breathe,
        )
        self._bus = Bus(
            self._pipeline.take,
            self._tick,
            self._guard,
            wake_at=max(1, config.ring_slots // 2),
            on_end=self._pipeline.close,
        )
        sources = Sources(names, optimizers, config, is_open=not models and not optimizers)
        self._loop = Loop(
            config, names, sources, self._bus, spent_ns=lambda: self._hooks.spent_ns, take_notes=self._notebook.end_step
        )
        self._probing = Probing(
            self._hooks,
            self._loop,
            self._guard,
            self._notebook,
            config,
            num_optimizers=len(optimizers),
            names=lambda: names.by_id,
            models=lambda: names.models,
            optimizers=lambda: sources.optimizers,
        )
        self._lock = threading.RLock()
        self.is_attached = False
        self._must_close = self._closes_itself = False
        self._watched = [weakref.ref(thing, self._lose) for thing in optimizers.values() or models.values()]
        self._num_lost = 0

    # what the user sees

    @property
    def url(self) -> str | None:
        """Address of the server, None without one."""
        return self._outlets.url

    @property
    def latest(self) -> StepReport | None:
        """The latest step report that the worker has made; call `flush` first to have the very last."""
        latest: StepReport | None = self._outlets.recent.latest
        return latest

    @property
    def epochs(self) -> tuple[EpochReport, ...]:
        """Epoch and window reports so far, oldest first, the last `history` of them."""
        epochs: tuple[EpochReport, ...] = self._outlets.recent.epochs
        return epochs

    @property
    def events(self) -> tuple[Event, ...]:
        """Events so far, oldest first, the last `history` of them."""
        events: tuple[Event, ...] = self._outlets.recent.events
        return events

    @property
    def activity(self) -> ActivityReport | None:
        """Counters of syncs and compilations by line and frame, None before there was any; `flush` first."""
        activity: ActivityReport | None = self._outlets.recent.latest_activity
        return activity

    @property
    def health(self) -> HealthReport | None:
        """Which anomalies are open, and the layers that are not healthy; None while nothing ever was wrong."""
        health: HealthReport | None = self._outlets.recent.latest_health
        return health

    @property
    def should_stop(self) -> bool:
        """Whether an event of `stop_on` has happened: by default a critical one. `flush` first to be sure."""
        return self._outlets.stop.should_stop

    @property
    def internal_errors(self) -> dict[str, int]:
        """Faults inside loopscope by part, each caught before it reached the loop."""
        return {part: count for part, count in self._guard.faults().items() if count}

    def log(self, *, loss: Any = None, samples: int | None = None, tokens: int | None = None, **values: Any) -> None:
        """Say what the loop knows: right after `optimizer.step()` for that step, or between backward and step.

        `loss` wins over the one seen at backward. Numbers and one-element tensors are taken; a CUDA tensor is copied
        without a sync.
        """
        with self._guard.at("log"):
            if self.is_attached:
                self._loop.log({"loss": loss, **values}, samples, tokens)

    def epoch(self) -> None:
        """Mark the end of an epoch (a call before its first step does nothing); passes of DataLoaders then end none."""
        with self._guard.at("log"):
            if self.is_attached:
                self._loop.mark_epoch()

    def arm(self, signal: str, steps: int = 2) -> None:
        """Look closely for the next `steps` steps: `"inplace"` watches every operator for writes to what is saved.

        Call it on the training thread, between steps. Costs up to twice the time of a step. Raises SettingError for
        another signal or fewer than one step.
        """
        if self.is_attached:
            self._probing.arm(signal, steps)

    def flush(self, timeout: float = 5.0) -> bool:
        """Wait, `timeout` seconds at the most, until all steps so far are exported; return whether they are."""
        if self.is_attached:  # without notes as well: it has the counters exported that steps have brought
            self._bus.put(Notes(notes=tuple(self._notebook.take()), time_unix_seconds=time.time()))
        return self._bus.flush(timeout)

    def detach(self) -> None:
        """Take all hooks out, report what is left, close the exporters; a second call does nothing."""
        self._close(_DETACH_SECONDS)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.detach()

    def __repr__(self) -> str:
        state = f"attached, {self.url or 'no server'}" if self.is_attached else "detached"
        return f"<loopscope.Agent {self.name!r}: {state}>"

    # life

    def _watches(self, models: Mapping[str, torch.nn.Module], optimizers: Mapping[str, torch.optim.Optimizer]) -> bool:
        """Whether the agent is attached to exactly these objects, all of them alive."""
        if not self.is_attached or self._must_close:
            return False
        watched = (self._models, models), (self._optimizers, optimizers)
        return all(
            len(references) == len(given)
            and {id(each()) for each in references} == {id(each) for each in given.values()}
            for references, given in watched
        )

    def _start(self) -> None:
        """Install the probes and start the worker; called once, by attach."""
        self._probing.install()
        self._bus.start(self._pipeline.start, _FIRST_WORD_SECONDS)
        self.is_attached = True

    def _close(self, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        if self._stop(deadline, timeout):
            self._await_end(deadline)
        elif self._closes_itself:  # the worker has been quicker: what it holds is still to be reported
            self._bus.await_worker(deadline)

    def _stop(self, deadline: float, timeout: float) -> bool:
        """Take the hooks out and have the worker end; False where that was done before."""
        with self._lock:
            if not self.is_attached:
                return False
            self.is_attached = False
        self._put_notes(self._notebook.take())
        self._probing.remove()
        with self._guard.at("loop"):
            self._hooks.remove()
            self._loop.end()
        self._bus.end(deadline - (1 - _WORKER_SHARE) * timeout)
        self._on_stop(self)
        return True

    def _await_end(self, deadline: float) -> None:
        """Wait for the worker; where it died or hangs close the exporters for it, but the one that it hangs in."""
        has_ended = self._bus.join()
        if self._bus.is_worker() or (has_ended and self._pipeline.is_closed):
            return

        def close() -> None:
            with self._guard.at("worker"):
                (self._pipeline.close if has_ended else self._pipeline.abandon)()

        closer = threading.Thread(target=close, name="loopscope-closer", daemon=True)
        with contextlib.suppress(RuntimeError):  # since Python 3.12 the end of the interpreter grants no threads
            closer.start()
            closer.join(max(0.0, deadline - time.monotonic()))

    def _leave_in_child(self) -> None:
        """After a fork the child has no worker: take the hooks out, and let go of the socket without a word."""
        self.is_attached = False
        with contextlib.ExitStack() as stack:
            stack.callback(self._outlets.close_in_child)
            stack.callback(self._hooks.remove)
            stack.callback(self._probing.remove)

    def _lose(self, _: object) -> None:
        self._num_lost += 1  # called by the garbage collector: the worker does the rest
        self._must_close = self._num_lost >= len(self._watched)

    def _put_notes(self, notes: Sequence[Note]) -> None:
        if notes:
            self._bus.put(Notes(notes=tuple(notes), time_unix_seconds=time.time()))

    def _tick(self) -> None:
        self._put_notes(self._notebook.take_if_idle())
        self._pipeline.tick()
        if self._must_close and self.is_attached:
            _logger.info("loopscope: what %r watched is gone; it detaches itself", self.name)
            self._closes_itself = True
            self._close(_SELF_CLOSE_SECONDS)  # this is the worker: it does not wait, and ends when it is done

    def _breathe(self) -> None:
        self._bus.breathe()

    def _report_self(self) -> SelfReport:
        hooks_seconds, worker_seconds = self._hooks.spent_ns / 1e9, self._bus.cpu_seconds
        server_seconds = self._outlets.cpu_seconds
        self._loop.note_worker(worker_seconds + server_seconds)
        begin, end = self._pipeline.first_step_seconds, self._pipeline.last_step_seconds
        return self._vitals.report(
            {"hooks": hooks_seconds, "worker": worker_seconds, "server": server_seconds},
            end - begin if begin is not None and end is not None else 0.0,
            num_dropped=self._loop.num_dropped,
            interval=self._loop.sample_interval,
        )


def _references(things: Mapping[str, Any]) -> list[weakref.ref[Any]]:
    return [weakref.ref(thing) for thing in things.values()]
