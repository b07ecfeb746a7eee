"""BackwardProbe: sees every `backward()` and its root, and every loss that a GradScaler scales."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.amp.grad_scaler import GradScaler
from torch.optim import Optimizer

from ..guard import Site
from ..hooks import Finish, HookSet

__all__ = ["BackwardListener", "BackwardProbe"]


class BackwardListener(Protocol):
    """Who wants to know of backward passes."""

    def backward_began(self, roots: tuple[Tensor, ...], scale: Tensor | None) -> Callable[[], None] | None:
        """A backward from `roots` begins, their values multiplied by `scale`; return what to call at its end."""

    def gradients_unscaled(self, optimizer: Optimizer) -> None:
        """A GradScaler has divided the gradients of an optimizer by its scale."""


class BackwardProbe:
    """Patches `torch.autograd.backward`, which `Tensor.backward` calls, and `GradScaler.scale` and `unscale_`."""

    name = "backward"

    def __init__(self, hooks: HookSet, site: Site, listener: BackwardListener) -> None:
        self._hooks, self._site, self._listener = hooks, site, listener
        self._scale: Tensor | None = None
        self._scaled: list[weakref.ref[Tensor]] = []

    def install(self) -> None:
        """Patch."""
        self._hooks.patch(torch.autograd, "backward", self._see_backward, self._site)
        self._hooks.patch(GradScaler, "scale", self._see_scale, self._site)
        self._hooks.patch(GradScaler, "unscale_", self._see_unscale, self._site)

    def remove(self) -> None:
        """Nothing beyond what the HookSet removes."""
        self._scale, self._scaled = None, []

    def _see_backward(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Finish | None:
        tensors = args[0] if args else kwargs.get("tensors", ())
        roots = (tensors,) if isinstance(tensors, Tensor) else tuple(t for t in tensors if isinstance(t, Tensor))
        finish = self._listener.backward_began(roots, self._scale_of(roots))
        return None if finish is None else lambda result, is_done: finish()

    def _see_scale(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Finish | None:
        scaler = args[0]

        def finish(result: Any, is_done: bool) -> None:
            self._scale = getattr(
                scaler, "_scale", None
            )  # private; a tensor, None before the first use or when disabled
            results = (result,) if isinstance(result, Tensor) else result if isinstance(result, Iterable) else ()
            self._scaled = [weakref.ref(tensor) for tensor in results if isinstance(tensor, Tensor)]

        return finish

    def _see_unscale(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Finish | None:
        optimizer = args[1] if len(args) > 1 else kwargs["optimizer"]
        if getattr(args[0], "_enabled", True):
            self._listener.gradients_unscaled(optimizer)
        return None

    def _scale_of(self, roots: tuple[Tensor, ...]) -> Tensor | None:
        """The scale of these roots: they were scaled themselves, or they were made from what was scaled just before."""
        if self._scale is None:
            return None
        scale = self._scale
        living = [tensor for reference in self._scaled if (tensor := reference()) is not None]
        self._scaled = [weakref.ref(tensor) for tensor in living if not any(tensor is root for root in roots)]
        if not self._scaled:
            self._scale = None
        return scale
