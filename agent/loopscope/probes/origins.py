"""OriginProbe: of a loss that is NaN or infinite, where in the forward pass that began, read from the loss's graph."""

from __future__ import annotations

import ctypes
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..guard import Site
from ..hooks import HookSet
from ..records import NonfiniteOrigin

__all__ = ["OriginProbe", "find_origin"]

_MAX_NODES = 50_000
_MAX_SEARCHES = 20
"""Searches of one agent: each reads what the graph has saved, some ten milliseconds for a large model."""
_MAX_ROWS = 16
_MAX_CHAIN = 4
_EXPONENTS: Mapping[torch.dtype, tuple[Any, int]] = {
    torch.float64: (ctypes.c_uint64, 0x7FF0_0000_0000_0000),
    torch.float32: (ctypes.c_uint32, 0x7F80_0000),
    torch.bfloat16: (ctypes.c_uint16, 0x7F80),
    torch.float16: (ctypes.c_uint16, 0x7C00),
}
"""Type of the bits of a number, and those of its exponent: all of them are set in NaN and infinity (IEEE 754)."""
_INPUTS = {
    "self": 0, "input": 0, "query": 0, "mat1": 1, "other": 1, "target": 1, "exponent": 1, "tensor1": 1, "key": 1,
    "batch1": 1, "weight": 1, "value": 2, "tensor2": 2, "batch2": 2,
}  # fmt: skip
"""Place among an operator's inputs of what autograd saves under these names (derivatives.yaml)."""
_VIEWS = ("View", "UnsafeView", "ReshapeAlias", "T", "Transpose", "Permute", "Expand", "Unsqueeze", "Squeeze", "Slice",
          "Select", "Split", "Unbind", "Alias", "AsStrided", "Clone", "ToCopy")  # fmt: skip
_EDGES: Mapping[str, tuple[str, Callable[[Tensor], Tensor]]] = {
    **dict.fromkeys(("Log", "Log2", "Log10"), ("self", lambda values: values <= 0)),
    "Log1p": ("self", lambda values: values <= -1),
    **dict.fromkeys(("Acos", "Asin"), ("self", lambda values: values.abs() > 1)),
    "Div": ("other", lambda values: values == 0),
    **dict.fromkeys(("NllLoss", "NllLoss2D"), ("total_weight", lambda values: values == 0)),
}
"""Operators that save no result, and which inputs have none that is finite; a mean over no target is one."""

_OPAQUE = ("CompiledFunction", "CheckpointFunction")


class OriginProbe:
    """Looks at the root of every backward on the CPU, whose value is there to be read, and searches its graph once.

    A search runs where a loss is not finite and the one before was. Devices other than the CPU are left alone: reading
    there is a sync.
    """

    name = "origins"

    def __init__(self, hooks: HookSet, site: Site, names: Callable[[], Mapping[int, str]]) -> None:
        self._hooks, self._site, self._names = hooks, site, names
        self._was_finite, self._num_searches = True, 0
        self._found: list[NonfiniteOrigin] = []

    def install(self) -> None:
        """Patch."""
        self._hooks.patch(torch.autograd, "backward", self._see_backward, self._site)

    def remove(self) -> None:
        """Nothing beyond what the HookSet removes."""

    def collect(self) -> Sequence[NonfiniteOrigin]:
        """Return what was found since the last call."""
        if not self._found:
            return ()
        found, self._found = self._found, []
        return found

    def _see_backward(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        tensors = args[0] if args else kwargs.get("tensors", ())
        for root in (tensors,) if isinstance(tensors, Tensor) else tensors:
            is_finite = _is_finite(root)
            if is_finite:
                self._was_finite = True
            elif is_finite is not None and self._was_finite and self._num_searches < _MAX_SEARCHES:
                self._was_finite = False
                self._num_searches += 1
                origin = find_origin(root, self._names())
                self._found += [] if origin is None else [origin]


def _is_finite(root: Any) -> bool | None:
    """Whether a number on the CPU is finite, None where it is no such number; no operator runs that somebody sees."""
    if type(root) is not Tensor or not root.is_cpu or root.numel() != 1 or root.dtype not in _EXPONENTS:
        return None
    bits, exponent = _EXPONENTS[root.dtype]
    return bool(bits.from_address(root.data_ptr()).value & exponent != exponent)


class _Node(NamedTuple):
    """A node of the graph with what is known of it."""

    function: Any
    operator: str
    owner: str | None
    """A parameter of the layer that it belongs to: its own, or that of what came before it."""


def find_origin(root: Tensor, names: Mapping[int, str]) -> NonfiniteOrigin | None:
    """Return where the graph of `root` (one element, on the CPU) first holds a NaN or an overflow, else an infinity.

    `names` are those of the parameters by id. None where the graph has saved nothing that tells. What is saved by
    saved-tensor hooks (checkpoint, save_on_cpu) is left alone, as unpacking it would compute; what comes after it, or
    after compiled code, may have begun there, so that no layer is named.
    """
    with torch._C._DisableTorchDispatch(), torch.no_grad():  # private
        nodes = _in_forward_order(root.grad_fn, names)
        known = {id(node.function): node for node in nodes}
        looks: tuple[Callable[[_Node], NonfiniteOrigin | None], ...] = (
            lambda node: _look(node, _is_nan_or_overflow, known, names),
            _look_at_edge,
            lambda node: _look(node, torch.isinf, known, names),
        )
        for look in looks:
            is_opaque = False
            for node in nodes:
                is_opaque = is_opaque or _is_opaque(node)
                origin = look(node)
                if origin is not None:
                    is_known = origin.what == "weight" or not is_opaque
                    return origin if is_known else dataclasses.replace(origin, parameter=None)
        return None


def _in_forward_order(function: Any, names: Mapping[int, str]) -> list[_Node]:
    found: dict[int, Any] = {}
    waiting = [function]
    while waiting and len(found) < _MAX_NODES:
        each = waiting.pop()
        if each is None or id(each) in found or _variable(each) is not None:
            continue
        found[id(each)] = each
        waiting += [before for before, _ in each.next_functions]
    owners: dict[int, str | None] = {}
    nodes = []
    for each in sorted(found.values(), key=lambda one: int(one._sequence_nr())):
        own = _own_parameter(each, names) or _frozen_parameter(each, names)
        if own is None:
            before = [one for one, _ in each.next_functions if one is not None and owners.get(id(one))]
            own = owners[id(max(before, key=lambda one: int(one._sequence_nr())))] if before else None
        owners[id(each)] = own
        nodes.append(_Node(each, each.name().removesuffix("0").removesuffix("Backward"), own))
    return nodes


def _own_parameter(function: Any, names: Mapping[int, str]) -> str | None:
    """Return the named parameter that goes into a node by the shortest way, through a few views at the most."""
    ends = [one for one, _ in function.next_functions if one is not None]
    for _ in range(_MAX_CHAIN):
        for end in ends:
            variable = _variable(end)
            if variable is not None and id(variable) in names:
                return names[id(variable)]
        ends = [before[0][0] for end in ends if len(before := end.next_functions) == 1 and before[0][0] is not None]
    return None


def _frozen_parameter(function: Any, names: Mapping[int, str]) -> str | None:
    """Return the named parameter that a node has saved: one that asks for no gradient is at no end of the graph."""
    return next((name for _, tensor in _saved(function) if (name := _parameter(tensor, names)) is not None), None)


def _parameter(tensor: Tensor, names: Mapping[int, str]) -> str | None:
    return names.get(id(tensor), names.get(id(tensor._base)))


def _variable(function: Any) -> Tensor | None:
    """Return the leaf that a node accumulates into; a function of the user's may have such an attribute as well."""
    return function.variable if type(function).__name__ == "AccumulateGrad" else None


def _look(
    node: _Node, is_bad: Callable[[Tensor], Tensor], known: Mapping[int, _Node], names: Mapping[int, str]
) -> NonfiniteOrigin | None:
    operator = node.operator.lower()
    for before, _ in node.function.next_functions:
        variable = _variable(before)
        if variable is not None and id(variable) in names and _has_any(variable, is_bad):
            return NonfiniteOrigin(what="weight", operator=operator, parameter=names[id(variable)])
    for name, tensor in _saved(node.function):
        if not _has_any(tensor, is_bad):
            continue
        parameter = _parameter(tensor, names)
        if parameter is not None:
            return NonfiniteOrigin(what="weight", operator=operator, parameter=parameter)
        rows = () if "rnn" in operator else _bad_rows(tensor, is_bad)  # whose dimension 0 is time
        if name.startswith(("result", "out")) or name == "tensors":  # those of a user's function may be what it made
            return _made(node, rows)
        maker = known.get(id(_maker(node.function, name)))
        if maker is not None:
            return _suspect(maker, known) or _made(maker, rows)
        what = "target" if name == "target" else "input"
        return NonfiniteOrigin(what=what, operator=operator, parameter=node.owner, rows=rows)
    return None


def _made(node: _Node, rows: tuple[int, ...]) -> NonfiniteOrigin:
    return NonfiniteOrigin(what="operator", operator=node.operator.lower(), parameter=node.owner, rows=rows)


def _suspect(maker: _Node, known: Mapping[int, _Node]) -> NonfiniteOrigin | None:
    """Return the operator right before `maker` that had an input without a finite result: sums and views save none."""
    waiting = [maker]
    for _ in range(_MAX_CHAIN):
        node = waiting.pop() if waiting else None
        if node is None:
            break
        origin = _look_at_edge(node)
        if origin is not None:
            return origin
        if next(_saved(node.function), None) is None:
            waiting += [known[id(before)] for before, _ in node.function.next_functions if id(before) in known]
    return None


def _look_at_edge(node: _Node) -> NonfiniteOrigin | None:
    if node.operator not in _EDGES:
        return None
    name, is_outside = _EDGES[node.operator]
    for saved, tensor in _saved(node.function):
        if saved == name and _has_any(tensor, is_outside):
            return _made(node, _bad_rows(tensor, is_outside))
    return None


def _is_opaque(node: _Node) -> bool:
    """Whether a node hides what happened in it."""
    raw = (each for _, each in _raw_saved(node.function))
    return node.operator in _OPAQUE or any(each is not None and each.unpack_hook is not None for each in raw)


def _saved(function: Any) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors that a node has saved, by name, those behind hooks left out."""
    for name, raw in _raw_saved(function):
        if raw is not None and raw.unpack_hook is None and _is_readable(raw.data):
            yield name, raw.data


def _raw_saved(function: Any) -> Iterator[tuple[str, Any]]:
    """Yield what a node has saved; `SavedTensor.data` is there since torch 2.8, and without it nothing is known."""
    if not hasattr(torch._C._autograd.SavedTensor, "data"):  # private
        return
    for name in dir(function):
        if not name.startswith("_raw_saved_") or "mask" in name:  # minus infinity is what a mask is made of
            continue
        if "running" in name and getattr(function, "_saved_training", False):
            continue  # statistics that this step does not use
        try:
            raw = getattr(function, name)
        except RuntimeError:  # freed by an earlier backward
            continue
        yield from ((name.removeprefix("_raw_saved_"), each) for each in (raw if isinstance(raw, Iterable) else (raw,)))


def _is_readable(tensor: Any) -> bool:
    """Whether it holds numbers on the CPU, one beside the other: sparse ones cannot be compared with infinity."""
    is_plain = type(tensor) in {Tensor, torch.nn.Parameter} and tensor.layout == torch.strided and tensor.is_cpu
    return bool(is_plain and tensor.is_floating_point() and tensor.numel())


def _maker(function: Any, name: str) -> Any:
    """Return the node that made the input which was saved under `name`, None where it is a constant or a leaf."""
    if name.startswith("running_"):
        return None
    inputs = function.next_functions
    place = _INPUTS.get(name, 0) if name != "mat2" else len(inputs) - 1
    maker = inputs[place][0] if place < len(inputs) else None
    while maker is not None and _is_view(maker) and len(maker.next_functions) == 1:
        maker = maker.next_functions[0][0]
    return maker


def _is_view(function: Any) -> bool:
    return function.name().removesuffix("0").removesuffix("Backward") in _VIEWS


def _is_nan_or_overflow(tensor: Tensor) -> Tensor:
    """Not minus infinity: it stands for probability zero in masks and logarithms."""
    return torch.isnan(tensor) | (tensor == torch.inf)


def _has_any(tensor: Tensor, is_bad: Callable[[Tensor], Tensor]) -> bool:
    return bool(torch._C.TensorBase.item(is_bad(tensor.detach()).any()))  # host sync: none, on the CPU


def _bad_rows(tensor: Tensor, is_bad: Callable[[Tensor], Tensor]) -> tuple[int, ...]:
    if tensor.dim() < 2:
        return ()
    is_bad_row = is_bad(tensor.detach()).reshape(len(tensor), -1).any(dim=1)
    rows = torch._C.TensorBase.tolist(is_bad_row.nonzero().reshape(-1))  # host sync: none, on the CPU
    return tuple(rows[:_MAX_ROWS]) if len(rows) < len(tensor) else ()
