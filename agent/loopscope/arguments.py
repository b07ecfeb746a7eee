"""What attach was given, put in order and checked: models by prefix, optimizers by label."""

from __future__ import annotations

import gc
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch.nn import Module
from torch.optim import Optimizer

from .errors import SettingError

__all__ = ["check_device", "check_match", "find_models", "named_models", "named_optimizers"]


def named_models(model: Any) -> dict[str, Module]:
    """Return the models by the prefix of their parameters' names: empty for a single model.

    Raises TypeError for what is no module, SettingError for a model without parameters.
    """
    models = _by_name("model", model, Module, "a torch.nn.Module")
    for name, module in models.items():
        if next(module.parameters(), None) is None:
            raise SettingError(
                "model",
                f"{type(module).__name__}{f' ({name})' if name else ''}",
                allowed="a module with parameters",
                remedy="Create its layers before attach, and run lazy modules once.",
            )
    return {f"{name}." if name else "": module for name, module in models.items()}


def named_optimizers(optimizer: Any) -> dict[str, Optimizer]:
    """Return the optimizers by label; wrappers that hold the real one as `.optimizer` are opened."""
    opened = _map(optimizer, _open)
    optimizers = _by_name("optimizer", opened, Optimizer, "a torch.optim.Optimizer")
    if len(optimizers) == 1:
        return {name or "optimizer": only for name, only in optimizers.items()}
    return {f"optimizer-{name}" if name.isdigit() else name: each for name, each in optimizers.items()}


def check_device(sync_device: str | None) -> None:
    """Raise SettingError where there is no such device to wait for; `cpu` simulates one on any machine.

    That it is the name of a device, `Config` has checked.
    """
    if sync_device is None or sync_device == "cpu":
        return
    if not getattr(getattr(torch, sync_device, None), "is_available", bool)():
        raise SettingError(
            "sync_device",
            sync_device,
            allowed="a type of device that this torch and this machine have, as cuda, or cpu",
            remedy="Leave it out for whatever accelerator there is, or use cpu to see what would wait on one.",
        )


def check_match(models: Mapping[str, Module], optimizers: Mapping[str, Optimizer]) -> None:
    """Raise SettingError where an optimizer steps none of the models' parameters."""
    known = {id(parameter) for module in models.values() for parameter in module.parameters()}
    for label, optimizer in optimizers.items():
        if known and not any(
            id(parameter) in known for group in optimizer.param_groups for parameter in group["params"]
        ):
            raise SettingError(
                "optimizer",
                f"{type(optimizer).__name__} ({label})",
                allowed="an optimizer of the model's parameters",
                remedy="It steps none of them: attach the model that it was made for, or make it anew from "
                "model.parameters() after the model or its parameters were replaced.",
            )


def find_models(optimizers: Iterable[Optimizer]) -> dict[str, Module]:
    """Return the outermost modules that own any of the optimizers' parameters, by a walk over all living objects."""
    wanted = {
        id(parameter) for optimizer in optimizers for group in optimizer.param_groups for parameter in group["params"]
    }
    owners = [
        candidate
        for candidate in gc.get_objects()
        if issubclass(type(candidate), Module) and any(id(parameter) in wanted for parameter in candidate.parameters())
    ]
    inner = {id(child) for owner in owners for child in owner.modules() if child is not owner}
    outermost = [owner for owner in owners if id(owner) not in inner]
    return {"" if len(outermost) == 1 else f"model-{i}.": owner for i, owner in enumerate(outermost)}


def _open(optimizer: Any) -> Any:
    while isinstance(inner := getattr(optimizer, "optimizer", None), Optimizer):
        optimizer = inner
    return optimizer


def _map(value: Any, function: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: function(each) for name, each in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [function(each) for each in value]
    return None if value is None else function(value)


def _by_name(argument: str, value: Any, kind: type, allowed: str) -> dict[str, Any]:
    if value is None:
        return {}
    if isinstance(value, kind):
        return {"": value}
    if isinstance(value, Mapping):
        named = {str(name): each for name, each in value.items()}
    elif isinstance(value, Sequence) and not isinstance(value, str):
        named = {str(index): each for index, each in enumerate(value)}
    else:
        named = {"": value}
    for each in named.values():
        if not isinstance(each, kind):
            raise TypeError(
                f"loopscope: {argument}={type(each).__name__} cannot be used. Allowed: {allowed}, a sequence or a "
                f"mapping of them. The order is attach(model, optimizer)."
            )
    if not named:
        raise SettingError(
            argument, value, allowed=f"{allowed}, or None", remedy="The collection is empty; leave it out."
        )
    return {"": next(iter(named.values()))} if len(named) == 1 and isinstance(value, Sequence) else named
