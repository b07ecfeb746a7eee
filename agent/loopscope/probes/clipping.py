"""ClippingProbe: sees gradient clipping, so that the norms before it are known without reading them twice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from ..guard import Site
from ..hooks import Finish, HookSet

__all__ = ["ClippingListener", "ClippingProbe"]


class ClippingListener(Protocol):
    """Who wants to know of clipping."""

    def gradients_clipped(self, parameters: Sequence[Tensor], max_norm: float, total_norm: Tensor) -> None:
        """The gradients of `parameters` are scaled by min(1, max_norm / (total_norm + 1e-6))."""


class ClippingProbe:
    """Patches `torch.nn.utils.clip_grad._clip_grads_with_norm_` (torch >= 2.6), through which all norm clipping goes.

    It catches even a `clip_grad_norm_` that was imported early. Older torch has no such function: the norm before
    clipping is then absent.
    """

    name = "clipping"

    def __init__(self, hooks: HookSet, site: Site, listener: ClippingListener) -> None:
        self._hooks, self._site, self._listener = hooks, site, listener

    def install(self) -> None:
        """Patch."""
        self._hooks.patch(torch.nn.utils.clip_grad, "_clip_grads_with_norm_", self._see_clip, self._site)

    def remove(self) -> None:
        """Nothing beyond what the HookSet removes."""

    def _see_clip(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Finish | None:
        parameters, max_norm, total_norm = (
            args[i] if len(args) > i else kwargs[name]
            for i, name in enumerate(("parameters", "max_norm", "total_norm"))
        )
        if hasattr(total_norm, "_local_tensor") or not isinstance(total_norm, Tensor):
            return None  # a DTensor's norm is partial: its value would take a collective
        listed = (
            [parameters]
            if isinstance(parameters, Tensor)
            else list(parameters)
            if isinstance(parameters, list | tuple)
            else []
        )
        if listed:
            self._listener.gradients_clipped(listed, float(max_norm), total_norm)
        return None
