"""Rescaled: activations that were changed without a node, and whose graph is used all the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..operators import Traits
from .calls import Call
from .evidence import is_changed
from .graph import nodes_of
from .history import History, Made, Store, Write
from .incidents import Incident

__all__ = ["Rescaled"]

_MAX_USES = 10_000
_COPYING = frozenset({"aten::clone", "aten::_to_copy"})
_PROJECTING = frozenset({
    "aten::clamp_", "aten::clip_", "aten::clamp_min_", "aten::clamp_max_", "aten::hardtanh_", "aten::relu_",
    "aten::threshold_", "aten::round_", "aten::floor_", "aten::ceil_", "aten::trunc_", "aten::sign_", "aten::sgn_",
})  # fmt: skip


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
            if not _is_straight_through(traits, store.producer) and is_changed(tensor, write.snapshot):
                self._writes.setdefault(key, _Use(write, store.producer))
        elif not traits.is_rescaling:
            self._writes.pop(key, None)  # overwritten

    def note_use(self, made: Made, call: Call) -> None:
        """Note a node that takes what was written to."""
        if not self._writes or len(self._uses) >= _MAX_USES:
            return
        for tensor in call.tensors():
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


def _is_straight_through(traits: Traits, producer: Made) -> bool:
    """Whether the gradient is meant to pass: a copy of its own is clamped or rounded, as in F.gaussian_nll_loss."""
    return traits.name in _PROJECTING and producer.operator in _COPYING
