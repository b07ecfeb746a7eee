"""BackwardReader: what the operators of backward read, and whether it is what forward had left there.

PyTorch has checked the versions of what it saved by itself before an operator of backward runs. What is changed all
the same was changed where it checks nothing: under saved-tensor hooks, past the version counter, or kept by a custom
function.
"""

from __future__ import annotations

from collections.abc import Callable
from types import FrameType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..operators import Operation
from .calls import Call
from .evidence import makes_a_difference, overlaps
from .functions import saving_place
from .graph import is_downstream
from .history import History, Made, Store, Write
from .incidents import Cause, Incident
from .phases import Phase
from .places import Place, frames_of_call, place_of

__all__ = ["BackwardReader"]

_CO_VARARGS = 0x04


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

    @property
    def has_hook_writes(self) -> bool:
        """Whether a hook has written to its gradient in this backward."""
        return bool(self._hook_writes)

    def look(self, operation: Operation, call: Call) -> None:
        """Report the tensors among the arguments that were changed since they were saved, with a difference."""
        made = None if call.number is None else self._history.made.get(call.number)
        if made is None and not self._hook_writes:
            return
        for tensor in call.tensors():
            key = tensor.untyped_storage()._cdata
            if key in self._hook_writes:
                self._look_for_sharing(key)
            store = self._history.stores.get(key)
            if made is None or store is None or not store.writes or operation.traits.is_view:
                continue
            found = self._changed(made, tensor, key, store, call.phase)
            if found is None or (made.sequence, found.time) in self._judged:
                continue
            self._judged.add((made.sequence, found.time))
            if makes_a_difference(operation, tensor, found):
                self._report(_incident(made, found, key, call.phase))

    def look_at_hook(self, call: Call) -> None:
        """Note a hook that writes to the gradient that it was given."""
        node, place = torch._C._current_autograd_node(), place_of(call.frame)
        given = [tensor for caller in frames_of_call(call.frame) for tensor in _given(caller)]
        storages = {
            tensor.untyped_storage()._cdata for tensor in given if not (tensor.is_leaf and tensor.requires_grad)
        }
        for target in call.written:
            key = target.untyped_storage()._cdata
            if key in storages and place is not None:  # where it is None the line is ours
                self._hook_writes.setdefault(key, _HookWrite(call.traits.name, place, node))

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
