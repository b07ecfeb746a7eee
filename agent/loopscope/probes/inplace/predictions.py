"""Predictor: writes to what the node that made it has saved; backward will raise, if it comes there."""

from __future__ import annotations

from collections.abc import Callable
from types import FrameType

import torch
from torch import Tensor

from ..operators import Traits
from .history import History, Store
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

    def look(self, traits: Traits, tensor: Tensor, store: Store, frame: FrameType) -> None:
        """Note the write that is about to happen to `tensor`, if its node has saved it."""
        if not torch.is_grad_enabled() or not tensor.requires_grad:
            return
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
                operator=traits.name,
                place=place_of(frame),
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
