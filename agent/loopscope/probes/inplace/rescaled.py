"""Rescaled: activations that were changed without a node, and whose graph is used all the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..operators import Traits
from .graph import nodes_of
from .history import History, Made, Store, Write
from .incidents import Incident

__all__ = ["Rescaled"]

_MAX_USES = 10_000


class _Use(NamedTuple):
    write: Write
    producer: Made


class Rescaled:
    """An activation that is scaled under no_grad, or through `.data`, has a gradient that knows nothing of it."""

    def __init__(self, history: History, report: Callable[[Incident], None]) -> None:
        self._history, self._report = history, report
        self._writes: dict[int, _Use] = {}
        self._uses: dict[int, _Use] = {}

    def note_write(self, traits: Traits, tensor: Tensor, store: Store, write: Write) -> None:
        """Note a write in forward, outside of custom functions."""
        key = tensor.untyped_storage()._cdata
        is_unseen = not torch.is_grad_enabled() or not tensor.requires_grad
        if is_unseen and traits.is_rescaling and store.producer is not None:
            self._writes.setdefault(key, _Use(write, store.producer))
        elif not traits.is_rescaling:
            self._writes.pop(key, None)  # overwritten

    def note_use(self, made: Made, tensors: Sequence[Tensor]) -> None:
        """Note a node that takes what was written to."""
        if not self._writes or len(self._uses) >= _MAX_USES:
            return
        for tensor in tensors:
            write = self._writes.get(tensor.untyped_storage()._cdata) if tensor.requires_grad else None
            if write is not None:
                self._uses[made.sequence] = write

    def begin_backward(self, roots: Sequence[Tensor]) -> None:
        """Report the writes whose nodes this backward runs through."""
        if not self._uses:
            return
        numbers = {node._sequence_nr() for node in nodes_of(roots)}
        for sequence, (write, producer) in list(self._uses.items()):
            if sequence in numbers and producer.sequence in numbers:
                del self._uses[sequence]
                self._report(
                    Incident(
                        cause="rescaled",
                        operator=write.operator,
                        place=write.place,
                        is_leaf=write.is_leaf,
                        saved_operator=producer.operator,
                        saved_place=producer.place,
                        region=producer.region,
                    )
                )
