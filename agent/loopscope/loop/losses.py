"""LossSum: the loss of a step, summed over its micro-steps on the device, without a sync and without its graph."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

__all__ = ["LossSum"]


class LossSum:
    """One number on the device of the loss; a buffer that is written in place, never a tensor of the user's.

    On the CPU the buffer is the host's memory, and its number is at hand.
    """

    def __init__(self) -> None:
        self._total: Tensor | None = None
        self._view: npt.NDArray[np.floating] | None = None
        """The memory of the sum, where it is the host's."""
        self._is_empty = True

    @property
    def number(self) -> float | None:
        """The sum so far where it is on the CPU, None where it is not, or no scalar loss was seen since `reset`."""
        return None if self._is_empty or self._view is None else float(self._view)

    @property
    def value(self) -> Tensor | None:
        """The sum so far (shape []) where it is on a device, None where it is not, or none was seen since `reset`."""
        return None if self._is_empty or self._view is not None else self._total

    def reset(self) -> None:
        """Begin a new step."""
        self._is_empty = True

    def add(self, roots: tuple[Tensor, ...], scale: Tensor | None) -> None:
        """Add the scalar roots of a backward, divided by the GradScaler's `scale` on the device."""
        if not all(map(_is_loss, roots)):
            return
        for root in roots:
            value = root.detach() if root.dim() == 0 else root.detach().reshape(())
            if scale is not None:
                value = value / scale.to(device=value.device, non_blocking=True)
            self._put(value)

    def _put(self, value: Tensor) -> None:
        total = self._total
        if total is None or not self._is_like(total, value):
            dtype = torch.float64 if value.dtype is torch.float64 else torch.float32
            total = self._total = torch.zeros_like(value, dtype=dtype)
            is_host = type(total) is Tensor and total.is_cpu
            self._view = total.numpy() if is_host else None  # host sync: none, the memory is ours and on the host
            self._is_empty = True
        if self._is_empty:
            total.copy_(value)
        else:
            total.add_(value)
        self._is_empty = False

    def _is_like(self, total: Tensor, value: Tensor) -> bool:
        is_double = value.dtype is torch.float64
        return (
            total.device == value.device and (total.dtype is torch.float64) is is_double and type(total) is type(value)
        )


def _is_loss(root: Tensor) -> bool:
    """A backward from a vector has no loss to speak of; the value of a DTensor would take a collective."""
    return root.numel() == 1 and not root.is_complex() and (type(root) is Tensor or not hasattr(root, "_local_tensor"))
