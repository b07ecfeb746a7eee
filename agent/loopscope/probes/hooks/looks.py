"""Looks: whether the hooks on a module run, by a hook of ours on the same module for one step.

Hooks of a module run by one mechanism, its `__call__`: where ours does not run, theirs does not either. What was
compiled with their hook in it is the exception, and left alone.
"""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch.nn import Module, Parameter

from ...hooks import CompileStart, ModuleHook, has_compiled_code, num_compiled
from ...records import HookSilence
from ...sites import Origin
from .census import CALLED, Found
from .functions import Place, place_of

__all__ = ["Looks"]

_KINDS = frozenset(CALLED.values())
_MAX_WATCHED = 64
_ENOUGH_TRAINED, _ENOUGH_IDLE = 12, 40
"""Looks after which nothing new is learnt."""
_AT_ONCE = 3
"""Looks on steps one after the other, once a module has shown that it trains without being called."""


@dataclass(slots=True)
class _Watched:
    """One module with hooks of others that run where it is called."""

    where: str
    module: weakref.ref[Module]
    hooks: dict[tuple[str, int], Place]
    """By kind and key."""
    num_compiled: int
    """Frames compiled when the hooks were not yet there: as long as it is the same, no compiled code has them."""
    is_settled: bool = False
    is_running: bool = False
    num_trained: int = 0
    num_idle: int = 0
    is_compiled: bool = False
    # of the look under way
    has_fired: bool = False
    is_trained: bool = False
    has_parent_fired: bool = False
    parameter: weakref.ref[Parameter] | None = None
    before: tuple[Any, int] | None = None

    @property
    def is_open(self) -> bool:
        return not self.is_settled and self.num_trained < _ENOUGH_TRAINED and self.num_idle < _ENOUGH_IDLE


@dataclass(slots=True)
class Looks:
    """What is known of the modules with hooks."""

    see: Any
    """Shield for our hooks' callback."""
    start: CompileStart
    _watched: dict[int, _Watched] = field(default_factory=dict)
    _looking: list[_Watched] = field(default_factory=list)
    _handles: list[Any] = field(default_factory=list)
    _num_compiled: int = 0
    """At the audit before."""
    _is_first: bool = True
    wants_more: bool = False
    """Whether a look at the very next step would decide something."""

    @property
    def is_on(self) -> bool:
        """Whether a look is under way."""
        return bool(self._looking)

    def update(self, found: Iterable[Found]) -> None:
        """Take in an audit: which modules have hooks of others that run where the module is called."""
        born = 0 if self._is_first else self._num_compiled
        now: dict[int, tuple[Found, dict[tuple[str, int], Place]]] = {}
        for each in found:
            if each.hook_kind not in _KINDS or each.owner is None:
                continue
            module = each.owner()
            foreign = _foreign(each)
            if module is not None and foreign:
                now.setdefault(id(module), (each, {}))[1].update(foreign)
        for identity, (each, hooks) in now.items():
            known = self._watched.get(identity)
            is_same = known is not None and known.module() is not None and known.hooks.keys() == hooks.keys()
            if not is_same and each.owner is not None:
                self._watched[identity] = _Watched(each.where, each.owner, hooks, born)
        for identity in self._watched.keys() - now.keys():
            del self._watched[identity]
        self._num_compiled, self._is_first = num_compiled(), False

    def begin(self, models: Mapping[str, Module]) -> None:
        """Put our hooks on the modules that are not settled, for the step to come."""
        if self._looking or not self.start.is_safe:
            return
        compiled = num_compiled()
        chosen = [each for each in self._watched.values() if each.is_open][:_MAX_WATCHED]
        for each in chosen:
            each.is_settled = each.num_compiled != compiled  # compiled since: perhaps with the hook in it
        self._looking = [each for each in chosen if not each.is_settled and each.module() is not None]
        if not self._looking:
            return
        self.start.listen()
        parents, owners = _parents(models), _owners(models)
        for each in self._looking:
            module = each.module()
            assert module is not None
            each.has_fired = each.is_trained = each.has_parent_fired = False
            each.parameter = _own_parameter(module, owners)
            self._handles.append(module.register_forward_hook(ModuleHook(self.see, each, False)))
            parent = parents.get(id(module))
            each.is_compiled = bool(compiled) and _is_within_compiled(module, parents)
            if parent is not None and not (compiled and parent._forward_hooks):
                self._handles.append(parent.register_forward_hook(ModuleHook(self.see, each, True)))

    def note_call(self, watched: _Watched, is_parent: bool, module: Module) -> None:
        """One of our hooks has run."""
        if is_parent:
            watched.has_parent_fired |= module.training
        else:
            watched.has_fired = True

    def begin_backward(self) -> None:
        """Remember the gradients."""
        for each in self._looking:
            parameter = each.parameter() if each.parameter is not None else None
            gradient = None if parameter is None else parameter.grad
            each.before = None if gradient is None else (weakref.ref(gradient), gradient._version)

    def end_backward(self) -> None:
        """See which modules got one: backward alone changes gradients in between."""
        for each in self._looking:
            parameter = each.parameter() if each.parameter is not None else None
            gradient = None if parameter is None else parameter.grad
            if gradient is not None:
                before = each.before
                each.is_trained |= before is None or before[0]() is not gradient or before[1] != gradient._version

    def retreat(self) -> None:
        """Take our hooks off and know nothing: dynamo is about to compile."""
        self._leave()
        self._looking, self.wants_more = [], False

    def end(self) -> list[HookSilence]:
        """Take our hooks off and return which hooks have not run so far."""
        self._leave()
        looked, self._looking = self._looking, []
        for each in looked:
            _judge(each)
        self.wants_more = any(each.is_open and 0 < each.num_trained < _AT_ONCE for each in looked)
        return self._silences() if any(not each.is_running for each in looked) else []

    def _leave(self) -> None:
        self.start.stop()
        while self._handles:
            self._handles.pop().remove()

    def _silences(self) -> list[HookSilence]:
        """Return a record a function, of the first module on which it is silent."""
        by_place: dict[tuple[str, Place], list[_Watched]] = {}
        for each in self._watched.values():
            for (hook_kind, _), place in each.hooks.items():
                by_place.setdefault((hook_kind, place), []).append(each)
        return [
            silence
            for (hook_kind, place), modules in by_place.items()
            if (silence := _silence(hook_kind, place, modules)) is not None
        ]


def _silence(hook_kind: str, place: Place, modules: list[_Watched]) -> HookSilence | None:
    silent = [each for each in modules if not each.is_settled and (each.num_trained or each.num_idle)]
    if not silent:
        return None
    first = max(silent, key=lambda each: (bool(each.num_trained), each.num_trained or each.num_idle))
    return HookSilence(
        where=first.where,
        hook_kind=hook_kind,
        site=place.site,
        function=place.function,
        num_looks=first.num_trained or first.num_idle,
        is_trained=bool(first.num_trained),
        is_compiled=first.is_compiled,
        num_silent=len(silent),
        num_running=sum(each.is_running for each in modules),
    )


def _judge(each: _Watched) -> None:
    module = each.module()
    if module is None or not each.hooks.keys() <= _present(module):
        return  # hooks have been taken off meanwhile
    if each.has_fired:
        each.is_settled = each.is_running = True
    elif each.is_trained:
        each.num_trained += 1
    elif each.has_parent_fired and module.training:
        each.num_idle += 1


def _present(module: Module) -> set[tuple[str, int]]:
    return {(hook_kind, key) for name, hook_kind in CALLED.items() for key in list(getattr(module, name))}


def _foreign(found: Found) -> dict[tuple[str, int], Place]:
    """Hooks of the user's and of packages; PyTorch's own do for modules what nobody calls."""
    places = {key: place_of(hook) for key, hook in list(found.hooks.items()) if not isinstance(hook, ModuleHook)}
    return {
        (found.hook_kind, key): place for key, place in places.items() if place.origin in {Origin.USER, Origin.PACKAGE}
    }


def _parents(models: Mapping[str, Module]) -> dict[int, Module]:
    return {id(child): module for model in models.values() for module in model.modules() for child in module.children()}


def _is_within_compiled(module: Module, parents: Mapping[int, Module]) -> bool:
    """Whether dynamo has compiled the forward of a module around this one, or its own."""
    around: Module | None = module
    while around is not None:
        if has_compiled_code(getattr(around.forward, "__func__", around.forward)):
            return True
        around = parents.get(id(around))
    return False


def _owners(models: Mapping[str, Module]) -> Counter[int]:
    """How many modules each parameter is of."""
    modules = {id(module): module for model in models.values() for module in model.modules()}
    return Counter(id(parameter) for module in modules.values() for parameter in module._parameters.values())


def _own_parameter(module: Module, owners: Counter[int]) -> weakref.ref[Parameter] | None:
    """Return a parameter below `module` that no other module has and that trains."""
    for parameter in module.parameters():
        if parameter.requires_grad and parameter.is_leaf and owners[id(parameter)] == 1:
            return weakref.ref(parameter)
    return None
