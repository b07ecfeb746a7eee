"""Sources: which optimizers belong to an agent, and the names of their parameters."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from torch.nn import Module
from torch.optim import Optimizer

from ..arguments import find_models
from ..budget import Budget
from ..config import Config
from ..frames import Table
from ..groups import LayerPlan, clean_name, plan_layers
from ..notes import Note
from ..probes.gradients import GradientReader
from ..probes.samples import PendingSample, SampleReader
from .clock import Lap

__all__ = ["Carry", "Names", "Source", "Sources"]


@dataclass(slots=True)
class Carry:
    """What dropped reports counted, for the next report."""

    num_steps: int = 0
    num_micro_steps: int = 0
    num_samples: int = 0
    num_tokens: int = 0
    num_skipped: dict[str, int] = field(default_factory=dict)
    notes: tuple[Note, ...] = ()


class Names:
    """Parameter names and layer groups of the watched models, looked up anew when parameters change identity."""

    def __init__(self, models: Mapping[str, Module], max_layers: int) -> None:
        self._models = {prefix: weakref.ref(model) for prefix, model in models.items()}
        self._max_layers = max_layers
        self.by_id: dict[int, str] = {}
        self._living: dict[int, weakref.ref[Tensor]] = {}
        self.plan: LayerPlan = plan_layers([], max_layers)
        self.refresh([])

    @property
    def models(self) -> dict[str, Module]:
        """The models that are watched and live, by the prefix of their parameters' names."""
        return {prefix: model for prefix, each in self._models.items() if (model := each()) is not None}

    def refresh(self, further: Iterable[tuple[Tensor, str]]) -> None:
        """Look the names up again; `further` names parameters that are in no model.

        A parameter that left its model keeps its name as long as it lives: the optimizer may still step it.
        """
        entries = [
            (parameter, name)
            for identity, name in self.by_id.items()
            if (parameter := self._living[identity]()) is not None
        ]
        found = {id(parameter): (parameter, name) for parameter, name in [*entries, *further]}
        for prefix, reference in self._models.items():
            model = reference()
            for name, parameter in model.named_parameters() if model is not None else ():
                found[id(parameter)] = (parameter, prefix + clean_name(name))
        self.by_id = {identity: name for identity, (_, name) in found.items()}
        self._living = {identity: weakref.ref(parameter) for identity, (parameter, _) in found.items()}
        self.plan = plan_layers(list(self.by_id.values()), self._max_layers)

    def watch(self, models: Mapping[str, Module]) -> None:
        """Watch these models as well."""
        known = [reference() for reference in self._models.values()]
        for prefix, model in models.items():
            if not any(model is other for other in known):
                self._models[prefix if prefix not in self._models else f"model-{len(self._models)}."] = weakref.ref(
                    model
                )

    def knows(self, parameter: Tensor) -> bool:
        """Whether this very parameter is watched (an id alone may have been given to another tensor since)."""
        reference = self._living.get(id(parameter))
        return reference is not None and reference() is parameter

    def table(self, parameters: Sequence[Tensor], label: str) -> Table:
        """Return names and layers of an optimizer's parameters (P tensors), in the optimizer's order."""
        if not all(self.knows(parameter) for parameter in parameters):
            self.refresh([])
            self.refresh([(p, f"{label}.p{i}") for i, p in enumerate(parameters) if not self.knows(p)])
        position = {name: index for index, name in enumerate(self.by_id.values())}
        names = tuple(self.by_id[id(parameter)] for parameter in parameters)
        global_index_P = self.plan.index_P[[position[name] for name in names]] if names else np.zeros(0, np.int64)
        used_G, layer_index_P = np.unique(global_index_P, return_inverse=True)
        return Table(
            layers=tuple(self.plan.layers[index] for index in used_G),
            names=names,
            layer_index_P=layer_index_P.astype(np.int64).reshape(-1),
            num_elements_P=np.array([parameter.numel() for parameter in parameters], dtype=np.int64),
            smallest_normal_P=np.array([_smallest_normal(parameter.dtype) for parameter in parameters]),
            frozen=_frozen(parameters),
        )


class Source:
    """One optimizer that an agent watches, with everything that is kept about it between steps."""

    def __init__(self, optimizer: Optimizer | None, label: str, config: Config) -> None:
        self.label = label
        self.reference: weakref.ref[Optimizer] | None = None if optimizer is None else weakref.ref(optimizer)
        self.reader = GradientReader(config.ring_slots)
        self.samples = SampleReader(config.sample_elements)
        self.budget = Budget(config.overhead_budget)
        self.lap = Lap()
        self.carry = Carry()
        self.pending: tuple[PendingSample, ...] = ()
        self.num_steps = 0
        """Attempts since attach: steps, and steps that a GradScaler or the loop left out."""
        self.begin_ns = 0
        """Begin of the step under way, on the clock that stands still during forward and backward."""
        self.sample_ns = 0
        self.table: Table | None = None
        self.num_tables = 0
        self._key: object = None
        self._groups: list[list[Tensor]] = []
        self._parameters: list[Tensor] = []
        self._dtypes: list[torch.dtype] = []

    @property
    def has_gradients(self) -> bool:
        """Whether any parameter has a gradient, be it zero."""
        optimizer = self.reference() if self.reference is not None else None
        groups = [] if optimizer is None else optimizer.param_groups
        return any(parameter.grad is not None for group in groups for parameter in group["params"])

    def parameters(self, optimizer: Optimizer, names: Names) -> list[Tensor]:
        """Return the optimizer's parameters; list and table are made anew where they are others than before.

        The list lives no longer than the optimizer, whose end drops this source.
        """
        groups = [group["params"] for group in optimizer.param_groups]
        key = tuple([(id(group), len(group), id(group[0]), id(group[-1])) if group else () for group in groups])
        if key != self._key:
            self._groups = groups  # kept, so that the id of a list cannot pass to the one that replaces it
            self._renew([parameter for group in groups for parameter in group], names, key)
        return self._parameters

    def check_identity(self, optimizer: Optimizer, names: Names) -> None:
        """Compare every parameter with the table (for sampled steps): one in the middle may have been replaced."""
        current = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        is_other = any(now is not before for now, before in zip(current, self._parameters, strict=False))
        is_frozen_anew = self.table is not None and self.table.frozen != _frozen(current)
        if is_other or is_frozen_anew or self._dtypes != [parameter.dtype for parameter in current]:
            self._renew(current, names, self._key)

    def forget(self) -> None:
        """Let go of the parameters: the optimizer is gone."""
        self._key, self._groups, self._parameters = None, [], []
        self.reader.forget()

    def _renew(self, parameters: list[Tensor], names: Names, key: object) -> None:
        self._key, self._parameters = key, parameters
        self._dtypes = [parameter.dtype for parameter in parameters]
        self.reader.forget()
        self.table = names.table(parameters, self.label)
        self.num_tables += 1


class Sources:
    """The optimizers of one agent: those given, and those found later by the parameters that they step."""

    def __init__(
        self, names: Names, optimizers: Mapping[str, Optimizer], config: Config, *, is_open: bool = False
    ) -> None:
        self._names, self._config, self._is_open = names, config, is_open
        self._by_id: dict[int, Source | None] = {}
        self._references: dict[int, weakref.ref[Optimizer]] = {}
        self.num_given = len(optimizers)
        for label, optimizer in optimizers.items():
            self._add(optimizer, Source(optimizer, label, config))

    @property
    def optimizers(self) -> list[Optimizer]:
        """The optimizers that are watched and live."""
        found = [source.reference() for source in self.all() if source.reference is not None]
        return [optimizer for optimizer in found if optimizer is not None]

    def all(self) -> list[Source]:
        """Sources known so far, in the order in which they came."""
        return list(dict.fromkeys(source for source in list(self._by_id.values()) if source is not None))

    def of(self, optimizer: Optimizer) -> Source | None:
        """Return the source of an optimizer, None where it is somebody else's."""
        identity = id(optimizer)
        if identity in self._by_id:
            return self._by_id[identity]
        if self._is_open:
            self._names.watch(find_models([optimizer]))
        self._names.refresh([])
        is_ours = self._is_open or any(
            self._names.knows(p) for group in optimizer.param_groups for p in group["params"]
        )
        label = "model" if not self.all() else f"optimizer-{len(self.all()) + 1}"
        return self._add(optimizer, Source(optimizer, label, self._config) if is_ours else None)

    def under(self, owner: Optimizer | Module) -> list[tuple[Source, Optimizer]]:
        """Return the known sources all of whose gradients `owner.zero_grad()` zeroes."""
        if isinstance(owner, Optimizer):
            source = self._by_id.get(id(owner))
            return [] if source is None else [(source, owner)]
        zeroed = {id(parameter) for parameter in owner.parameters()}
        found = []
        for source in self.all():
            optimizer = source.reference() if source.reference is not None else None
            if optimizer is not None and all(id(p) in zeroed for g in optimizer.param_groups for p in g["params"]):
                found.append((source, optimizer))
        return found

    def _add(self, optimizer: Optimizer, source: Source | None) -> Source | None:
        identity = id(optimizer)
        self._by_id[identity] = source
        self._references[identity] = weakref.ref(optimizer, lambda _: self._forget(identity))
        return source

    def _forget(self, identity: int) -> None:
        source = self._by_id.pop(identity, None)
        if source is not None:
            source.forget()
        self._references.pop(identity, None)


def _frozen(parameters: Sequence[Tensor]) -> tuple[int, ...]:
    return tuple([index for index, parameter in enumerate(parameters) if not parameter.requires_grad])


def _smallest_normal(dtype: torch.dtype) -> float:
    return float(torch.finfo(dtype).smallest_normal) if dtype.is_floating_point or dtype.is_complex else 0.0
