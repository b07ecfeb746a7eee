"""ActivationProbe: puts forward hooks on the activation modules for a sampled step, and takes them off at its end."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module

from ...frames import ActivationFrame
from ...guard import Site
from ...hooks import CompileStart, Finish, HookSet, ModuleHook
from .accounts import Accounts
from .functional import count_activations
from .kinds import Kind
from .meter import Meter
from .places import find_places

__all__ = ["ActivationProbe"]

_logger = logging.getLogger("loopscope")


class ActivationProbe:
    """At work between `begin` and `end`; while it is not, there is nothing of it on the model.

    Modules that torch.compile compiles are left alone. Where a compilation begins during a sample all hooks go at
    once, so that the compiled code is the one without us, and the sample is given up.
    """

    name = "activations"

    def __init__(self, hooks: HookSet, site: Site, models: Callable[[], Mapping[str, Module]]) -> None:
        self._hooks, self._site, self._models = hooks, site, models
        self._handles: list[Any] = []
        self._names: tuple[str, ...] = ()
        self._types: tuple[str, ...] = ()
        self._num_compiled = 0
        self._meter: Meter | None = None
        self._accounts = Accounts()
        self._compile_start = CompileStart(hooks.shield(self._retreat, site))
        self._num_functional: int | None = None
        self._is_first = True
        self.spent_ns = 0

    def install(self) -> None:
        """Patch what runs a backward, and say where there is nothing to look at."""
        self._see = self._hooks.shield(self._see_call, self._site)
        self._see_root = self._hooks.shield(self._see_output, self._site)
        self._hooks.patch(torch.autograd, "backward", self._see_backward, self._site)
        places = find_places(self._models())
        if places.roots and not places.names:
            _logger.warning("loopscope: activations=True, but %s", _remedy(places.num_compiled))

    def remove(self) -> None:
        """Take the hooks off."""
        self._leave()

    def begin(self) -> None:
        """Put the hooks on; a second call does nothing."""
        with self._timed(), self._site:
            if self._handles or not self._site.is_enabled or not self._compile_start.is_safe:
                return
            places = find_places(self._models())  # not kept: the models are the user's to let go
            if places.names != self._names:
                self._accounts.forget()
            self._names, self._types, self._num_compiled = places.names, places.types, places.num_compiled
            self._meter = Meter()
            self._compile_start.listen()
            for index, (module, kind) in enumerate(places.modules):
                self._handles.append(module.register_forward_hook(ModuleHook(self._see, index, kind)))
            for root in places.roots:
                self._handles.append(root.register_forward_hook(ModuleHook(self._see_root)))

    def end(self) -> tuple[ActivationFrame, ...]:
        """Take the hooks off and return what they saw."""
        with self._timed(), self._site:
            meter = self._meter
            self._leave()
            if meter is None or not meter.calls:
                return ()
            frames, num_left_out = self._accounts.close(meter.calls, frozenset(meter.outputs), self._names, self._types)
            num_unseen = len(self._names) + self._num_compiled - len({call.module for call in meter.calls})
            return tuple(
                replace(
                    frame,
                    num_unseen=num_unseen,
                    num_functional=self._num_functional,
                    num_left_out=num_left_out + meter.num_left_out,
                )
                for frame in frames
            )
        return ()

    def _leave(self) -> None:
        self._compile_start.stop()
        while self._handles:
            self._handles.pop().remove()
        self._meter = None

    def _retreat(self, *_: Any) -> None:
        self._leave()

    def _see_call(self, index: int, kind: Kind, module: Module, inputs: Sequence[Any], output: Any) -> None:
        meter = self._meter
        if meter is not None and module.training:
            with self._timed():
                meter.see(index, kind, inputs, output)

    def _see_output(self, _: Module, __: Sequence[Any], output: Any) -> None:
        meter = self._meter
        if meter is not None:
            meter.see_output(output)

    def _see_backward(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Finish | None:
        meter = self._meter
        if meter is None:
            return None
        if self._is_first:
            self._is_first = False
            roots = args[0] if args else kwargs.get("tensors", ())
            self._look_for_functional((roots,) if isinstance(roots, Tensor) else tuple(roots), meter)
        return lambda result, is_done: meter.begin_micro_step()

    def _look_for_functional(self, roots: Sequence[Any], meter: Meter) -> None:
        count = count_activations([root for root in roots if isinstance(root, Tensor)])
        if count is None:
            return
        self._num_functional = max(0, count - len(meter.calls))
        if self._num_functional and self._names:
            _logger.info(
                "loopscope: about %d activations are function calls (torch.relu, functional.gelu, ...), which cannot "
                "be looked at: use modules (nn.ReLU, nn.GELU) for them",
                self._num_functional,
            )

    @contextlib.contextmanager
    def _timed(self) -> Iterator[None]:
        start_ns = time.perf_counter_ns()
        try:
            yield
        finally:
            self.spent_ns += time.perf_counter_ns() - start_ns


def _remedy(num_compiled: int) -> str:
    if num_compiled:
        return f"all {num_compiled} activation modules are compiled by torch.compile, where they cannot be looked at."
    return "the model has no activation modules: use modules (nn.ReLU, nn.GELU) in place of torch.relu and its like."
