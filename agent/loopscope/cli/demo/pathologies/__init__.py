"""Pathologies: faults as people write them, each planted on one line of a file of its own."""

from __future__ import annotations

import importlib
import linecache
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType, ModuleType
from typing import TYPE_CHECKING

from ....sites import site_of

if TYPE_CHECKING:
    from ..training import Training

__all__ = ["PATHOLOGIES", "Pathology", "PlantedLine"]

_MARK = "  # planted"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlantedLine:
    """The line at fault."""

    site: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Pathology:
    """A fault, and what is to be heard of it."""

    name: str
    plants: str
    """What was done to the demo, without the remedy."""
    kind: str
    """Of the event that has to come, at `warning` or above."""
    fix: str
    """The planted line as it should be."""
    num_epochs: int = 2
    raises: tuple[type[Exception], ...] = ()
    """With what training ends, where it does."""

    def training(self) -> Training:
        """Return the run with the fault in it; imports torch."""
        training: Training = self._module().TRAINING
        return training

    def planted_line(self) -> PlantedLine:
        """Return the line of the fault's file that bears the mark."""
        path = self._module().__file__ or ""
        lines = enumerate(linecache.getlines(path), start=1)
        number, text = next((number, text) for number, text in lines if text.rstrip().endswith(_MARK))
        return PlantedLine(site=site_of(path, number), text=text.strip().removesuffix(_MARK))

    def _module(self) -> ModuleType:
        return importlib.import_module(f"{__name__}.{self.name.replace('-', '_')}")


_ALL = (
    Pathology(
        name="nan",
        plants="Images are divided by their contrast, and ever more of them is erased.",
        kind="nonfinite_loss",
        fix="images = images / contrast.clamp_min(1e-3)",
        num_epochs=3,
    ),
    Pathology(
        name="exploding",
        plants="The learning rate warms up, and goes on rising after that.",
        kind="exploding_gradient",
        fix="factor = min(1.0, number / _WARM_UP_STEPS) ** 4",
    ),
    Pathology(
        name="vanishing",
        plants="The network has six more layers, each with a sigmoid behind it.",
        kind="vanishing_gradient",
        fix="self.deep.append(nn.ReLU())",
    ),
    Pathology(
        name="sync",
        plants="The loop adds up the running loss as a Python number.",
        kind="device_sync",
        fix="running_loss += loss.detach()",
    ),
    Pathology(
        name="recompile",
        plants="The network goes through torch.compile, and counts its calls.",
        kind="recompilation",
        fix='self.register_buffer("num_calls", torch.zeros(()))',
    ),
    Pathology(
        name="inplace",
        plants="The network has a shortcut past a layer, which is added with +=.",
        kind="inplace_conflict",
        fix="hidden = hidden + self.shortcut(features)",
        raises=(RuntimeError,),
    ),
    Pathology(
        name="checkpoint-corruption",
        plants="The head of the network runs in a checkpoint, with dropout in place.",
        kind="inplace_corruption",
        fix="hidden = nn.functional.dropout(hidden, 0.3, self.training)",
    ),
    Pathology(
        name="dead-layer",
        plants="The network keeps its latest features for a plot.",
        kind="dead_layer",
        fix="self.latest_features = features.detach()",
    ),
)
PATHOLOGIES: Mapping[str, Pathology] = MappingProxyType({each.name: each for each in _ALL})
