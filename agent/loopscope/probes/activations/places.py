"""Places: the activation modules of the watched models that run eagerly, by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch.nn import Module

from ...groups import clean_name
from .kinds import Kind, kind_of

__all__ = ["Places", "find_places", "is_compiled"]


@dataclass(frozen=True, slots=True)
class Places:
    """Activation modules, and the models whose output tells which of them come last."""

    names: tuple[str, ...]
    modules: tuple[tuple[Module, Kind], ...]
    roots: tuple[Module, ...]
    num_compiled: int
    """Activation modules in compiled ones, which are left alone."""

    @property
    def types(self) -> tuple[str, ...]:
        """The class of each module."""
        return tuple(type(module).__name__ for module, _ in self.modules)


def find_places(models: Mapping[str, Module]) -> Places:
    """Return the activation modules of `models`, each once."""
    found: dict[int, tuple[str, Module, Kind]] = {}
    num_compiled = 0
    for prefix, model in models.items():
        for name, module, is_in_compiled in _walk(model, prefix.removesuffix("."), is_in_compiled=False):
            kind = kind_of(module)
            if kind is not None and is_in_compiled:
                num_compiled += 1
            elif kind is not None and id(module) not in found:
                found[id(module)] = (clean_name(f"{name}.output").rpartition(".")[0], module, kind)
    return Places(
        names=tuple(name for name, _, _ in found.values()),
        modules=tuple((module, kind) for _, module, kind in found.values()),
        roots=tuple(model for model in models.values() if not is_compiled(model)),
        num_compiled=num_compiled,
    )


def is_compiled(module: Module) -> bool:
    """Whether torch.compile was told to compile this module, or TorchScript has."""
    is_wrapper = type(module).__name__ == "OptimizedModule"
    return (
        is_wrapper
        or getattr(module, "_compiled_call_impl", None) is not None
        or isinstance(module, torch.jit.ScriptModule)
    )


def _walk(module: Module, name: str, *, is_in_compiled: bool) -> Iterator[tuple[str, Module, bool]]:
    """Yield a module and all below it, with whether any around it is compiled."""
    is_in_compiled = is_in_compiled or is_compiled(module)
    yield name, module, is_in_compiled
    for child_name, child in module.named_children():
        yield from _walk(child, f"{name}.{child_name}" if name else child_name, is_in_compiled=is_in_compiled)
