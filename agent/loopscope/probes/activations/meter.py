"""Meter: takes, in forward hooks, what an activation module puts out, as small tensors that stay on the device.

Shape legend: C units of one activation (features, or channels of a convolution).
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...readback import is_capturing
from .kinds import Kind

__all__ = ["Call", "Meter", "is_measurable"]

_MAX_CALLS = 4_096
"""Calls of one sampled step that are kept until its end, micro-steps included."""
_CHANNELS_FIRST = ("Convolution", "BatchNorm", "GroupNorm", "InstanceNorm", "MaxPool", "AvgPool")
_FEATURES_LAST = ("Addmm", "Mm", "Linear", "LayerNorm", "RmsNorm", "RMSNorm", "Permute", "Transpose")
_MAX_WALK = 6


@dataclass(frozen=True, slots=True)
class Call:
    """One call of one activation module; the tensors are ours and have no graph."""

    module: int
    """Index of the module."""
    number: int
    """How many calls of the module there were before it since the last backward, on the same thread."""
    num_rows: int
    num_units: int
    num_elements: int
    dead_C: Tensor | None
    """[C] rows at which each unit put out nothing; None for kinds that cannot die."""
    num_flat: Tensor | None
    """[] elements at a flat end."""
    square: Tensor
    """[] sum of squares."""
    place: tuple[int, int]
    """Address and size of the output, to see whether the model puts it out as it is."""


class Meter:
    """Collects the calls of one sampled step; hooks of several threads (DataParallel) may call `see` at once."""

    def __init__(self) -> None:
        self.calls: deque[Call] = deque()
        self.num_left_out = 0
        self.outputs: set[tuple[int, int]] = set()
        """Addresses and sizes of what models have put out."""
        self._numbers: dict[tuple[int, int], int] = {}
        self._is_counted: set[int] = set()
        self._unit_dims: dict[tuple[int, int], int] = {}

    def begin_micro_step(self) -> None:
        """Count the calls of each module from zero again; not where a checkpoint's inner backward has ended."""
        if not _is_in_backward():
            self._numbers.clear()
            self._is_counted.clear()

    def see(self, index: int, kind: Kind, inputs: Sequence[Any], output: Any) -> None:
        """Take in what module number `index` put out; a recomputation in backward counts where the forward did not."""
        if not is_measurable(output) or not torch.is_grad_enabled():
            return
        key = (index, threading.get_ident())
        if not _is_in_backward():
            self._is_counted.add(index)
        elif index in self._is_counted:
            return  # else the forward of a checkpoint ran without a graph, and this is the first time
        number = self._numbers.get(key, 0)
        self._numbers[key] = number + 1
        if len(self.calls) >= _MAX_CALLS:
            self.num_left_out += 1
            return
        with torch.no_grad():
            self.calls.append(self._measure(index, number, kind, inputs, output))

    def see_output(self, output: Any) -> None:
        """Take in what a model puts out, two levels deep."""
        for tensor in _tensors(output, depth=2):
            self.outputs.add(_place(tensor))

    def _measure(self, index: int, number: int, kind: Kind, inputs: Sequence[Any], output: Tensor) -> Call:
        dim = self._unit_dim(index, output)
        others = tuple(each for each in range(output.dim()) if each != dim)
        num_units = output.shape[dim]
        source: Any = output if not kind.reads_input else inputs[0] if inputs else None
        dead_C: Tensor | None = None
        if kind.can_die and is_measurable(source) and source.shape == output.shape:
            is_dead: Tensor = source <= kind.dead_below
            dead_C = is_dead.sum(others) if others else is_dead.long()
        return Call(
            module=index,
            number=number,
            num_rows=output.numel() // max(1, num_units),
            num_units=num_units,
            num_elements=output.numel(),
            dead_C=dead_C,
            num_flat=_count_flat(kind, output) if kind.can_saturate else None,
            square=torch.linalg.vector_norm(output, dtype=torch.float32).square(),
            place=_place(output),
        )

    def _unit_dim(self, index: int, output: Tensor) -> int:
        """Return the dimension of features or channels: as the operator before says, else by the number of them."""
        num_dims = output.dim()
        if num_dims <= 2:
            return num_dims - 1
        dim = self._unit_dims.get((index, num_dims))
        if dim is None:
            is_last = _says_last(output.grad_fn)
            dim = num_dims - 1 if (num_dims == 3 if is_last is None else is_last) else 1
            self._unit_dims[index, num_dims] = dim
        return dim


def is_measurable(value: Any) -> bool:
    """Whether it is a tensor with values that may be looked at: not traced, transformed, captured or in inference."""
    return (
        isinstance(value, Tensor)
        and type(value) in {Tensor, torch.nn.Parameter}
        and value.layout is torch.strided
        and value.is_floating_point()
        and value.dim() > 0
        and value.numel() > 0
        and not value.is_inference()
        and torch._C._get_tracing_state() is None
        and not _is_transformed(value)
        and not is_capturing()
    )


def _is_transformed(value: Tensor) -> bool:
    functorch: Any = getattr(torch._C, "_functorch", None)  # private; torch 2.0 to 2.13
    return functorch is not None and bool(functorch.is_functorch_wrapped_tensor(value))


def _is_in_backward() -> bool:
    """Whether this thread is inside of backward, where only a checkpoint runs modules."""
    current = getattr(torch._C, "_current_graph_task_id", None)  # private; torch 2.1 to 2.13
    return current is not None and current() != -1


def _count_flat(kind: Kind, output: Tensor) -> Tensor:
    below, above = output <= kind.flat_below, output >= kind.flat_above  # a bound that is NaN has none
    return below.logical_or_(above).sum()


def _says_last(node: Any) -> bool | None:
    """Whether the operators before an activation have their features last, None where they do not say."""
    for _ in range(_MAX_WALK):
        if node is None:
            return None
        name = node.name()
        if any(word in name for word in _CHANNELS_FIRST):
            return False
        if any(word in name for word in _FEATURES_LAST):
            return True
        node = node.next_functions[0][0] if node.next_functions else None
    return None


def _place(tensor: Tensor) -> tuple[int, int]:
    return (tensor.untyped_storage().data_ptr(), tensor.numel()) if is_measurable(tensor) else (0, 0)


def _tensors(value: Any, depth: int) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    if not depth:
        return []
    values = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
    return [tensor for each in values for tensor in _tensors(each, depth - 1)]
