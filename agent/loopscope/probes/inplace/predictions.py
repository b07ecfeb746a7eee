"""Predictor: writes to what the node that made it has saved; backward will raise, if it comes there."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .calls import Call
from .history import History
from .incidents import Incident
from .places import place_of

__all__ = ["Predictor"]

_SAVED_RESULTS = ("_saved_result", "_saved_result0", "_saved_output", "_saved_out")
"""What a node that saves its own output has."""


class Predictor:
    """Keeps what is to be expected until a backward has shown how it is, or the step is over without one."""

    def __init__(self, history: History, report: Callable[[Incident], None]) -> None:
        self._history, self._report = history, report
        self._expected: list[Incident] = []

    def look(self, call: Call) -> None:
        """Note the writes that are about to happen, to what its node has saved."""
        if torch.is_grad_enabled():
            for tensor in call.written:
                if tensor.requires_grad and not tensor.is_leaf:
                    self._look(call, tensor)

    def _look(self, call: Call, tensor: Tensor) -> None:
        source = tensor._base if tensor._is_view() and tensor._base is not None else tensor
        node = source.grad_fn
        if node is None or not any(hasattr(type(node), name) for name in _SAVED_RESULTS):
            return
        made = self._history.made.get(node._sequence_nr())
        if made is None or made.region is not None:
            return
        self._expected.append(
            Incident(
                cause="predicted",
                operator=call.traits.name,
                place=place_of(call.frame),
                saved_operator=made.operator,
                saved_place=made.place,
            )
        )

    def forget(self) -> None:
        """A backward has come: what was wrong has raised."""
        self._expected.clear()

    def tell(self) -> None:
        """Report what no backward has judged."""
        for incident in self._expected:
            self._report(incident)
        self._expected.clear()
