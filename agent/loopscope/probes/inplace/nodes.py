"""NodeRecorder: notes which operator and line made each node of the graph, by the node's sequence number."""

from __future__ import annotations

import itertools
import weakref
from collections import Counter
from typing import Any

import torch

from ..operators import tensors_in
from .calls import Call
from .history import History, Made, Twin
from .phases import Phase
from .places import FUNCTION, Trail, inner_of, is_inside, place_of
from .regions import CHECKPOINTED, is_packing, next_sequence, region, run_of_region

__all__ = ["NodeRecorder"]

_MAX_STORES = 64
"""Storages of a custom function that are remembered."""
_MAX_UNSEEN = 8
"""Nodes without an operator of their own between two operators: functions that compute nothing."""


class NodeRecorder:
    """A node takes its number right before its operator is dispatched: a number that is new is the operator's."""

    def __init__(self, history: History) -> None:
        self._history = history
        self.sequence = next_sequence()
        """The number that the next node will have."""
        self.open_function: Made | None = None
        """A custom function whose forward may be under way."""
        self._numbers: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()
        self._counts: weakref.WeakKeyDictionary[Any, Counter[Any]] = weakref.WeakKeyDictionary()
        self._new_number = itertools.count()

    @property
    def is_at_rest(self) -> bool:
        """Whether the operator that is about to run makes no node, and is in no custom function's forward."""
        return self.open_function is None and not torch.is_grad_enabled() and next_sequence() == self.sequence

    def note(self, call: Call, result: Any) -> Made | None:
        """Return the node that an operator of forward has made, None where it has made none."""
        sequence = next_sequence()
        if sequence == self.sequence and self.open_function is None:
            return None
        if is_packing(call.frame):
            return None
        made = None
        if sequence != self.sequence:
            made = self._note(call, sequence, result)
        else:
            self._extend_function(call)
        self.sequence = sequence
        return made

    def call_of_region(self) -> tuple[int | None, Any]:
        """Return the number of the checkpointed call that is under way, and what stands for this run of it."""
        run = run_of_region()
        if run is None:
            return None, None
        number = self._numbers.get(run[1])
        if number is None:
            number = self._numbers[run[1]] = next(self._new_number)
        return number, run[0]

    def _note(self, call: Call, sequence: int, result: Any) -> Made:
        frame, history = call.frame, self._history
        function_frame = None if torch.is_grad_enabled() else is_inside(frame, FUNCTION)
        operator = call.traits.name
        if function_frame is not None:
            operator = getattr(function_frame.f_locals.get("cls"), "__name__", operator)
        trail = Trail.of(frame) if function_frame is None else Trail(place_of(function_frame.f_back))
        hooks = region()
        for unseen in range(max(self.sequence, sequence - 1 - _MAX_UNSEEN), sequence - 1):
            history.add_made(Made(unseen, history.time, history.time, operator, trail, hooks), [])
        made = Made(
            sequence - 1, history.time, history.time, operator, trail, hooks,
            is_function=function_frame is not None, is_recomputed=call.phase is Phase.RECOMPUTATION,
            twin=self._twin(operator, frame) if hooks == CHECKPOINTED else None,
        )  # fmt: skip
        inputs = history.stores_of(call.tensors())
        outputs = history.stores_of(tensors_in(result if isinstance(result, list | tuple) else (result,)))
        history.add_made(made, [*inputs, *outputs])
        if not call.traits.is_view:
            known = {key for key, _ in inputs}
            for key, store in outputs:
                if key not in known or call.traits.writes:
                    store.producer = made
        self.open_function = made if made.is_function else None
        return made

    def _twin(self, operator: str, frame: Any) -> Twin | None:
        number, run = self.call_of_region()
        if number is None:
            return None
        inner, counts = inner_of(frame), self._counts.setdefault(run, Counter())
        counts[operator, inner] += 1
        return Twin(number, operator, inner, counts[operator, inner])

    def _extend_function(self, call: Call) -> None:
        """An operator without a node after a custom function's: one of its forward, or what comes after it."""
        made = self.open_function
        if made is None:
            return
        if torch.is_grad_enabled() or is_inside(call.frame, FUNCTION) is None:
            self.open_function = None
            return
        made.end = self._history.time
        if len(made.stores) < _MAX_STORES:
            self._history.extend(made, self._history.stores_of(call.tensors()))
