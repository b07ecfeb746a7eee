"""What `agent.log` was given: numbers, and tensors on a device, which are copied to the host without a sync."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..frames import Layout, Part, StepFrame
from ..readback import Ring, is_capturing

__all__ = ["LogReader", "Logged"]

_MAX_TENSORS = 16
_NUM_SLOTS = 16
_NOTHING = Layout(parameter_index_N=np.zeros(0, np.int64), owner_W=np.zeros(0, np.int64))


@dataclass(slots=True)
class Logged:
    """What `agent.log` gave for a step."""

    values: dict[str, float] = field(default_factory=dict)
    """Numbers by name, the loss among them."""
    samples: int | None = None
    tokens: int | None = None
    parts: tuple[Part, ...] = ()
    """Numbers that are still on their way from a device."""

    def add(self, other: Logged) -> None:
        """Take what `other` has; its values win."""
        self.values |= other.values
        self.samples = self.samples if other.samples is None else other.samples
        self.tokens = self.tokens if other.tokens is None else other.tokens
        self.parts += other.parts

    def give_to(self, frame: StepFrame) -> None:
        """Write the values into a frame that the worker has not got yet."""
        frame.logged |= self.values
        frame.logged_parts += self.parts
        if self.samples is not None:
            frame.num_samples += self.samples - (frame.samples or 0)
            frame.samples = self.samples
        if self.tokens is not None:
            frame.num_tokens += self.tokens - (frame.tokens or 0)
            frame.tokens = self.tokens


class LogReader:
    """Takes what the user says; a tensor on a device goes into a slot, everything else is a number at once."""

    def __init__(self) -> None:
        self._rings: dict[torch.device, Ring] = {}

    def read(self, given: Mapping[str, Any], samples: int | None, tokens: int | None) -> Logged:
        """Return the values; TypeError or ValueError for what is no number. Values that are None are left out."""
        values: dict[str, float] = {}
        on_device: dict[torch.device, dict[str, Tensor]] = {}
        for name, value in given.items():
            if isinstance(value, Tensor) and value.device.type != "cpu":
                on_device.setdefault(value.device, {})[name] = value.detach().reshape(())
            elif value is not None:
                values[name] = float(value.detach() if isinstance(value, Tensor) else value)
        parts = [part for device, tensors in on_device.items() if (part := self._send(device, tensors)) is not None]
        return Logged(
            values,
            None if samples is None else int(samples),
            None if tokens is None else int(tokens),
            tuple(parts),
        )

    def _send(self, device: torch.device, tensors: Mapping[str, Tensor]) -> Part | None:
        """Copy the tensors to the host; None where the worker is behind, or a CUDA graph is being captured."""
        ring = self._rings.get(device)
        if ring is None:
            ring = self._rings[device] = Ring(
                _NUM_SLOTS, {"scalars": _MAX_TENSORS}, device, torch.float32, unbound=("scalars",)
            )
        slot = None if is_capturing() else ring.acquire()
        if slot is None:
            return None
        for target, tensor in zip(slot.elements["scalars"], tensors.values(), strict=False):
            target.copy_(tensor, non_blocking=True)
        slot.commit()
        return Part(values=slot, layout=_NOTHING, scalars=tuple(tensors)) if slot.is_real else None
