"""ModuleHook: a forward hook of ours that is on a module for one step, and leaves no trace in copies of the module."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import torch

from .patches import skip_code

__all__ = ["ModuleHook"]


class ModuleHook:
    """Calls back after each eager call of a module; neither compiled into a graph, nor copied, nor pickled.

    `__call__` is read by dynamo, which finds nothing in it that goes into a graph. A copy of the module gets a hook
    that does nothing, from the standard library: loopscope need not be there where the module is loaded.
    """

    def __init__(self, see: Callable[..., None], *arguments: Any) -> None:
        self._see, self._arguments = see, arguments
        skip_code(ModuleHook.__call__)

    def __call__(self, module: Any, inputs: Any, output: Any) -> None:
        """Pass the call on, behind the arguments given."""
        if not torch.compiler.is_compiling():
            self._see(*self._arguments, module, inputs, output)

    def __deepcopy__(self, memo: Any) -> Callable[..., None]:
        return contextlib.nullcontext().__exit__

    def __reduce__(self) -> tuple[Any, ...]:
        return getattr, (contextlib.nullcontext(), "__exit__")
