"""BackwardReader: what the operators of backward read, and whether it is what forward had left there.

PyTorch has checked the versions of what it saved by itself before an operator of backward runs. What is changed all
the same was changed where it checks nothing: under saved-tensor hooks, past the version counter, or kept by a custom
function.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum
from types import FrameType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..operators import Operation, Traits
from .evidence import makes_a_difference, overlaps
from .functions import saving_place
from .graph import is_downstream
from .history import History, Made, Store, Write
from .incidents import Cause, Incident
from .places import CHECKPOINT, FUNCTION, Place, frames_of_call, place_of

__all__ = ["BackwardReader", "Phase", "phase_of"]

_CO_VARARGS = 0x04


class Phase(Enum):
    """What an operator is part of."""

    FORWARD = 0
    NODE = 1
    """A node of PyTorch's own, in backward."""
    FUNCTION = 2
    """The backward of a custom function."""
    RECOMPUTATION = 3
    """A checkpointed forward, run once more."""
    HOOK = 4
    """A hook on a tensor, a node or a module."""


def phase_of(frame: FrameType) -> Phase:
    """Return what an operator that runs during backward is part of."""
    frames = frames_of_call(frame)
    if not frames:
        return Phase.NODE
    codes = [each.f_code for each in frames]
    if any(code.co_filename == CHECKPOINT for code in codes):
        return Phase.RECOMPUTATION
    if any((code.co_filename, code.co_name) == FUNCTION for code in codes):
        return Phase.FUNCTION
    return Phase.HOOK


class _HookWrite(NamedTuple):
    operator: str
    place: Place | None
    node: Any


class BackwardReader:
    """Looks at the operators of backward before they run."""

    def __init__(self, history: History, report: Callable[[Incident], None]) -> None:
        self._history, self._report = history, report
        self._judged: set[tuple[int, int]] = set()
        self._hook_writes: dict[int, _HookWrite] = {}

    def look(self, operation: Operation, tensors: Sequence[Tensor], number: int | None, phase: Phase) -> None:
        """Report the tensors among the arguments that were changed since they were saved, with a difference."""
        made = None if number is None else self._history.made.get(number)
        for tensor in tensors:
            key = tensor.untyped_storage()._cdata
            if key in self._hook_writes:
                self._look_for_sharing(key)
            store = self._history.stores.get(key)
            if made is None or store is None or not store.writes or operation.traits.is_view:
                continue
            found = self._changed(made, tensor, key, store, phase)
            if found is None or (made.sequence, found.time) in self._judged:
                continue
            self._judged.add((made.sequence, found.time))
            if makes_a_difference(operation, tensor, found):
                self._report(_incident(made, found, key, phase))

    def look_at_hook(self, traits: Traits, targets: Sequence[Tensor], frame: FrameType) -> None:
        """Note a hook that writes to the gradient that it was given."""
        node = torch._C._current_autograd_node()
        given = [tensor for caller in frames_of_call(frame) for tensor in _given(caller)]
        storages = {
            tensor.untyped_storage()._cdata for tensor in given if not (tensor.is_leaf and tensor.requires_grad)
        }
        for target in targets:
            key = target.untyped_storage()._cdata
            if key in storages:
                self._hook_writes.setdefault(key, _HookWrite(traits.name, place_of(frame), node))

    def end_backward(self) -> None:
        """Tell of the hooks whose writes nobody else has read."""
        for write in self._hook_writes.values():
            self._report(Incident(cause="own_hook", operator=write.operator, place=write.place))
        self._hook_writes.clear()

    def _changed(self, made: Made, tensor: Tensor, key: int, store: Store, phase: Phase) -> Write | None:
        """Return the first write since the node saved this storage, None where there is none or it did not save it."""
        twin = next((use for use in reversed(store.uses) if use.time > made.time and use.is_twin_of(made)), None)
        if twin is not None:
            since = twin.time
        elif store.born <= made.end and (key in made.stores or (phase is Phase.FUNCTION and made.is_function)):
            since = made.end
        else:
            return None
        writes = (write for write in store.writes if write.time > since and write.node != made.sequence)
        return next((write for write in writes if overlaps(write, tensor)), None)

    def _look_for_sharing(self, key: int) -> None:
        """Whether the node that now reads what a hook wrote to got it from elsewhere than through that hook."""
        write = self._hook_writes[key]
        node: Any = torch._C._current_autograd_node()  # None in other threads
        if node is None or is_downstream(node, write.node):
            return
        del self._hook_writes[key]
        self._report(Incident(cause="hook", operator=write.operator, place=write.place))


def _incident(made: Made, write: Write, key: int, phase: Phase) -> Incident:
    cause: Cause = "bypassed"
    place = made.place
    if phase is Phase.FUNCTION:
        cause, place = "kept", saving_place(torch._C._current_autograd_node(), key, place)
    if made.region is not None:
        cause = "unchecked"
    return Incident(
        cause=cause,
        operator=write.operator,
        place=write.place,
        is_leaf=write.is_leaf,
        saved_operator=made.operator,
        saved_place=place,
        region=made.region,
    )


def _given(frame: FrameType) -> list[Tensor]:
    """Return the tensors that a function was called with, as far as its names still stand for them."""
    code, values = frame.f_code, frame.f_locals
    names = code.co_varnames[: code.co_argcount + bool(code.co_flags & _CO_VARARGS)]
    found: list[Tensor] = []
    for name in names:
        value = values.get(name)
        found += [inner for inner in (value if isinstance(value, tuple | list) else (value,)) if _is_plain(inner)]
    return found


def _is_plain(value: object) -> bool:
    return isinstance(value, Tensor) and value.layout is torch.strided
