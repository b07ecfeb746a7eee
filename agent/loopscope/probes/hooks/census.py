"""Census: the hooks of others on modules, parameters and optimizers, and on everything, as they are now."""

from __future__ import annotations

import sys
import weakref
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from torch import Tensor
from torch.nn import Module

from ...groups import clean_name
from ...hooks import ModuleHook
from ...sites import Origin
from .functions import Place, place_of

__all__ = ["CALLED", "Census", "Found"]

CALLED = {
    "_forward_hooks": "forward",
    "_forward_pre_hooks": "forward_pre",
    "_backward_hooks": "backward",
    "_backward_pre_hooks": "backward_pre",
}
"""Hooks that run where a module is called."""
_OF_MODULE = {**CALLED, "_state_dict_hooks": "state_dict", "_load_state_dict_post_hooks": "load_state_dict"}
_OF_TENSOR = {"_backward_hooks": "tensor", "_post_accumulate_grad_hooks": "post_accumulate"}
_OF_OPTIMIZER = {
    "_optimizer_step_pre_hooks": "step_pre",
    "_optimizer_step_post_hooks": "step_post",
    "_optimizer_state_dict_pre_hooks": "state_dict",
    "_optimizer_state_dict_post_hooks": "state_dict",
}
_GLOBAL = {
    ("torch.nn.modules.module", "_global_forward_hooks"): "forward",
    ("torch.nn.modules.module", "_global_forward_pre_hooks"): "forward_pre",
    ("torch.nn.modules.module", "_global_backward_hooks"): "backward",
    ("torch.nn.modules.module", "_global_backward_pre_hooks"): "backward_pre",
    ("torch.optim.optimizer", "_global_optimizer_pre_hooks"): "step_pre",
    ("torch.optim.optimizer", "_global_optimizer_post_hooks"): "step_post",
}
_AUDITS_PER_WALK = 64
_MAX_READ = 16
"""Hooks of one place whose functions are looked at, the latest ones."""


class Found(NamedTuple):
    """The hooks of one kind at one place."""

    where: str
    hook_kind: str
    owner: weakref.ref[Any] | None
    hooks: Mapping[int, Any]

    def functions(self) -> dict[Place, int]:
        """Return how many hooks there are by function, ours left out; of many, those of the latest stand for all."""
        keys = list(self.hooks)[-_MAX_READ:]
        counts: dict[Place, int] = {}
        for key in keys:
            hook = self.hooks.get(key)
            if hook is None or isinstance(hook, ModuleHook):
                continue
            place = place_of(hook)
            if place.origin is not Origin.OURS:
                counts[place] = counts.get(place, 0) + 1
        if len(self.hooks) > _MAX_READ and counts:
            most = max(counts, key=lambda place: counts[place])
            counts[most] += len(self.hooks) - len(keys)
        return counts


class Census:
    """Knows where hooks can be, by weak references; walks over the model anew now and then. All private attributes of
    torch are read by name and may be missing.
    """

    def __init__(self) -> None:
        self._modules: list[tuple[str, str, weakref.ref[Module]]] = []
        self._dicts: list[weakref.ref[Any]] = []
        self._parameters: list[tuple[str, weakref.ref[Tensor]]] = []
        self._num_audits = 0

    def take(self, models: Mapping[str, Module], optimizers: Iterable[Any]) -> Iterator[Found]:
        """Yield the places that have hooks. Cost: about 0.3 us a module and parameter, more where there are some."""
        if self._num_audits % _AUDITS_PER_WALK == 0:
            self._walk(models)
        self._num_audits += 1
        for index in [index for index, hooks in enumerate(self._dicts) if hooks()]:
            hooks, (where, hook_kind, owner) = self._dicts[index](), self._modules[index]
            if hooks:
                yield Found(where, hook_kind, owner, hooks)
        for name, reference in self._parameters:
            tensor = reference()
            if tensor is not None and (tensor._backward_hooks or getattr(tensor, "_post_accumulate_grad_hooks", None)):
                yield from _of(tensor, name, _OF_TENSOR)
        for optimizer in optimizers:
            yield from _of(optimizer, "optimizer", _OF_OPTIMIZER)
        for (module, name), hook_kind in _GLOBAL.items():
            hooks = getattr(sys.modules.get(module), name, None)
            if hooks:
                yield Found("global", hook_kind, None, hooks)

    def _walk(self, models: Mapping[str, Module]) -> None:
        self._modules, self._dicts, self._parameters = [], [], []
        for prefix, model in models.items():
            for name, module in model.named_modules():
                where = module_name(prefix, name)
                values, reference = module.__dict__, weakref.ref(module)
                for attribute, hook_kind in _OF_MODULE.items():
                    hooks = values.get(attribute)
                    if hooks is not None and type(hooks) is not dict:  # a plain dict has no weak references
                        self._modules.append((where, hook_kind, reference))
                        self._dicts.append(weakref.ref(hooks))
            for name, parameter in model.named_parameters():
                self._parameters.append((prefix + clean_name(name), weakref.ref(parameter)))


def module_name(prefix: str, name: str) -> str:
    """Return a module's path as it was written; the model itself is `(root)`."""
    full = f"{prefix}{name}".strip(".")
    return clean_name(f"{full}.hooks").rpartition(".")[0] or "(root)"


def _of(owner: Any, where: str, attributes: Mapping[str, str]) -> Iterator[Found]:
    for attribute, hook_kind in attributes.items():
        hooks = getattr(owner, attribute, None)
        if hooks:
            yield Found(where, hook_kind, None, hooks)
