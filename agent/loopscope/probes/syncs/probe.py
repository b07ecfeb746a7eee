"""SyncProbe: counts the syncs of one agent's process, always the explicit ones, inside operators on sampled steps."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ...config import Config
from ...guard import Site
from ...hooks import HookSet
from ...notes import Note
from .determinism import DeterminismReader
from .ledger import LEDGER, Reader
from .operators import OperatorWatch, SimulatedWatch, Watch
from .scalars import replace_scalars, replace_synchronize

__all__ = ["SyncProbe"]

_ACCELERATORS = frozenset({"cuda", "xpu", "mps"})
_INTERVAL = 20
"""Steps from one with the device's sync warnings on to the next: a warning costs 3 us."""
_SIMULATION = "cpu"


class SyncProbe:
    """Replaces the calls that wait, and has operators watched every so many steps."""

    name = "syncs"

    def __init__(self, hooks: HookSet, site: Site, config: Config) -> None:
        self._hooks, self._site, self._config = hooks, site, config
        self._device_types = _device_types(config.sync_device)
        self._interval = config.sync_interval or (1 if self._is_simulated else _INTERVAL)
        self._reader: Reader | None = None
        self._watch: Watch | None = None
        self._determinism = DeterminismReader(hooks, site)
        self._num_steps = 0

    def install(self) -> None:
        """Count from here on; without a device to wait for there is nothing to do."""
        self._determinism.look()
        if not self._device_types:
            return
        self._hooks.on_remove(LEDGER.listen(self._device_types, self._site))
        replace_scalars(self._hooks)
        replace_synchronize(self._hooks, self._device_types)
        self._reader = Reader(LEDGER, self._device_types, self._config.allow_syncs)
        self._watch = (
            SimulatedWatch(self._hooks, self._site) if self._is_simulated else OperatorWatch(self._hooks, self._site)
        )
        self._watch.arm()

    def remove(self) -> None:
        """Stop looking into operators; the HookSet takes the rest out."""
        if self._watch is not None:
            self._watch.disarm()

    def end_step(self) -> Sequence[Note]:
        """Arm or disarm for the step to come, on the training thread; return what is new."""
        self._num_steps += 1
        self._determinism.look()
        if self._watch is not None and self._interval > 1:
            if self._num_steps % self._interval == 0:
                self._watch.arm()
            elif self._num_steps % self._interval == 1:
                self._watch.disarm()
        return self.collect()

    def collect(self) -> Sequence[Note]:
        """Return what is new; any thread."""
        if self._reader is None and not self._determinism.has_news:
            return ()
        notes: Sequence[Note] = self._reader.read() if self._reader is not None else ()
        further: list[Note] = [*self._determinism.read(), *(self._watch.read() if self._watch is not None else ())]
        return [*notes, *further] if further else notes

    @property
    def _is_simulated(self) -> bool:
        return _SIMULATION in self._device_types


def _device_types(setting: str | None) -> frozenset[str]:
    if setting is not None:
        return frozenset({setting})
    return frozenset(name for name in _ACCELERATORS if getattr(getattr(torch, name, None), "is_available", bool)())
