"""Probing: the probes of an agent, made, installed, removed in reverse, and armed on demand."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from torch.nn import Module
from torch.optim import Optimizer

from .config import Config
from .errors import SettingError
from .guard import Guard
from .hooks import HookSet
from .loop import Loop
from .notebook import Notebook
from .probes.activations import ActivationProbe
from .probes.backward import BackwardProbe
from .probes.clipping import ClippingProbe
from .probes.compiles import CompileProbe
from .probes.hooks import HookProbe
from .probes.inplace import InplaceProbe
from .probes.loader import LoaderProbe
from .probes.optimizers import OptimizerProbe
from .probes.origins import OriginProbe
from .probes.pauses import PauseProbe
from .probes.syncs import SyncProbe
from .protocols import Probe

__all__ = ["Probing"]


class Probing:
    """All probes of one agent, each behind a guard site of its own."""

    def __init__(
        self,
        hooks: HookSet,
        loop: Loop,
        guard: Guard,
        notebook: Notebook,
        config: Config,
        *,
        num_optimizers: int,
        names: Callable[[], Mapping[int, str]],
        models: Callable[[], Mapping[str, Module]],
        optimizers: Callable[[], Iterable[Optimizer]],
    ) -> None:
        at = guard.at
        self._at = at
        self._inplace = InplaceProbe(hooks, at("probe.inplace"), config, num_optimizers)
        syncs, compiles = SyncProbe(hooks, at("probe.syncs"), config), CompileProbe(hooks, at("probe.compiles"))
        origins = OriginProbe(hooks, at("probe.origins"), names)
        pauses = PauseProbe(hooks, at("probe.pauses"))
        notebook.add(pauses.collect, at("probe.pauses"))
        notebook.add(origins.collect, at("probe.origins"))
        notebook.add(syncs.collect, at("probe.syncs"), end_step=syncs.end_step)
        notebook.add(compiles.collect, at("probe.compiles"))
        notebook.add(self._inplace.collect, at("probe.inplace"), end_step=self._inplace.end_step)
        self._probes: tuple[Probe, ...] = (
            pauses,
            origins,
            BackwardProbe(hooks, at("probe.backward"), loop),
            ClippingProbe(hooks, at("probe.clipping"), loop),
            LoaderProbe(hooks, at("probe.loader"), loop),
            OptimizerProbe(hooks, at("probe.optimizers"), loop),
            compiles,
            syncs,
            self._inplace,
        )
        audit = HookProbe(hooks, at("probe.hooks"), models, optimizers)
        notebook.add(audit.collect, at("probe.hooks"), end_step=audit.end_step)
        self._probes += (audit,)
        if config.activations:
            activations = ActivationProbe(hooks, at("probe.activations"), models)
            loop.sample_with(activations)
            self._probes += (activations,)

    def install(self) -> None:
        """Put all hooks in place."""
        for probe in self._probes:
            with self._at(f"probe.{probe.name}"):
                probe.install()

    def remove(self) -> None:
        """Have the probes leave, the last one first."""
        for probe in reversed(self._probes):
            with self._at(f"probe.{probe.name}"):
                probe.remove()

    def arm(self, signal: str, steps: int) -> None:
        """Look closely for the next steps; SettingError for a signal that cannot be armed, or no steps."""
        if signal != self._inplace.name:
            raise SettingError("signal", signal, allowed='"inplace"', remedy='Call agent.arm("inplace").')
        if type(steps) is not int or steps < 1:
            raise SettingError("steps", steps, allowed="a whole number from 1", remedy="Leave it out for 2 steps.")
        with self._at(f"probe.{signal}"):
            self._inplace.arm(steps)
