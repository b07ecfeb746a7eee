"""What waits inside operators, looked for on sampled steps: CUDA's sync warnings, or the simulation's dispatch mode."""

from __future__ import annotations

import re
import threading
import warnings
from collections import deque
from collections.abc import Sequence
from types import FrameType
from typing import Any, Protocol

import torch

from ...guard import Site
from ...hooks import HookSet
from ...notes import AllocatorNote
from ...sites import user_frame
from .calls import kind_of_call
from .ledger import LEDGER
from .simulation import Simulation
from .warning_hook import listen

__all__ = ["OperatorWatch", "SimulatedWatch", "Watch"]

_TEXT = "called a synchronizing CUDA operation"
_PROTOTYPE_TEXT = "Synchronization debug mode is a prototype feature"
_OFF, _WARN = 0, 1
_ALLOCATOR = {"num_alloc_retries": "retry", "num_sync_all_streams": "sync_all_streams", "num_device_free": "free"}
"""Counters of torch.cuda.memory_stats, and what they are called here."""
_MAX_PENDING = 100


class Watch(Protocol):
    """Looks into operators while it is armed; `arm` and `disarm` on the training thread, twice is once."""

    def arm(self) -> None:
        """Look from here on."""

    def disarm(self) -> None:
        """Leave things as they were."""

    def read(self) -> Sequence[AllocatorNote]:
        """Return what the allocator did since the last time."""


class OperatorWatch:
    """CUDA's sync debug mode "warn" on armed steps, unless the user has set a mode.

    Our filter is there while the mode is, and comes and goes unannounced: `warnings.filterwarnings` would have Python
    forget which of the user's warnings it has shown. A warning that the user's own mode brings forth is noted where the
    user's filters let it through, and shown as ever.
    """

    def __init__(self, hooks: HookSet, site: Site) -> None:
        self._is_armed = self._is_arming = False
        self._allocator: dict[str, int] = {}
        self._pending: deque[AllocatorNote] = deque(maxlen=_MAX_PENDING)
        self._filter = ("always", re.compile(f"{_TEXT}|{_PROTOTYPE_TEXT}"), Warning, None, 0)
        listen(hooks, site, self._handle)

    def arm(self) -> None:
        """Turn the mode on, and see what the allocator has done."""
        if not torch.cuda.is_initialized():  # type: ignore[no-untyped-call]  # torch
            return
        self._look_at_allocator()
        if not self._is_armed and torch.cuda.get_sync_debug_mode() == _OFF:
            self._is_armed = True
            _filters().insert(0, self._filter)
            self._set_mode(_WARN)

    def disarm(self) -> None:
        """Turn the mode off where it is still the one that we have set."""
        if self._is_armed and torch.cuda.get_sync_debug_mode() == _WARN:
            self._set_mode(_OFF)
        if self._filter in _filters():
            _filters().remove(self._filter)
        self._is_armed = False

    def read(self) -> Sequence[AllocatorNote]:
        """See Watch."""
        return [self._pending.popleft() for _ in range(len(self._pending))]

    def _set_mode(self, mode: int) -> None:
        self._is_arming = True
        try:
            torch.cuda.set_sync_debug_mode(mode)
        finally:
            self._is_arming = False

    def _handle(self, text: str, frame: FrameType) -> bool:
        if text.startswith(_PROTOTYPE_TEXT):
            return self._is_arming
        if not text.startswith(_TEXT):
            return False
        if threading.get_ident() in LEDGER.busy:
            return self._is_armed  # `.item()` itself is being counted
        own = user_frame(frame)
        LEDGER.note("operator" if own is None else kind_of_call(own), "cuda", 0, frame)
        return self._is_armed

    def _look_at_allocator(self) -> None:
        statistics = torch.cuda.memory_stats()
        current = {event: int(statistics.get(name, 0)) for name, event in _ALLOCATOR.items()}
        for event, count in current.items():
            before = self._allocator.get(event, count)
            if count > before:
                self._pending.append(AllocatorNote(event=event, count=count - before))
        self._allocator = current


def _filters() -> list[Any]:
    filters: Any = warnings.filters  # a list, whatever typeshed says
    return filters  # type: ignore[no-any-return]


class SimulatedWatch:
    """The simulation's dispatch mode on the stack of the thread that arms it."""

    def __init__(self, hooks: HookSet, site: Site) -> None:
        self._mode: Simulation | None = None
        self._site = site
        Simulation.replace(hooks)

    def arm(self) -> None:
        """Put the mode on the stack."""
        mode = Simulation.of_thread()
        if self._mode is not mode:
            self.disarm()
        self._mode = mode
        mode.retain(self, self._site)

    def disarm(self) -> None:
        """Take it off, if it is on top."""
        if self._mode is not None:
            self._mode.release(self)

    def read(self) -> Sequence[AllocatorNote]:
        """See Watch."""
        return ()
