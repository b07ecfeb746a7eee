"""Recomputations: what a checkpointed region finds changed when it is run once more, and what it changes once more."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..operators import Traits
from .evidence import can_look, differs
from .history import History, Made, Store, Write
from .incidents import Incident
from .places import Place, place_of

__all__ = ["Recomputations"]

_MAX_REPEATED = 64


class _Repeated(NamedTuple):
    tensor: Tensor
    before: Tensor
    operator: str
    place: Place | None


class Recomputations:
    """Looks at the operators of a recomputation; what was there before the backward is not the region's own."""

    def __init__(self, history: History, report: Callable[[Incident], None]) -> None:
        self._history, self._report = history, report
        self._begin = 0
        self._repeated: dict[int, _Repeated] = {}
        self._readers: dict[int, Place | None] = {}

    def begin_backward(self) -> None:
        """What is born from here on belongs to the recomputations."""
        self._begin = self._history.time

    def look(self, tensors: Sequence[Tensor], targets: Sequence[Tensor], number: int | None, frame: FrameType) -> None:
        """Report what the operator reads that was changed since the region's forward."""
        node = None if number is None else self._history.made.get(number)
        for tensor in tensors:
            key = tensor.untyped_storage()._cdata
            store = self._history.stores.get(key)
            if store is None or not store.writes or store.born > self._begin or any(tensor is each for each in targets):
                continue
            if key in self._repeated and torch.is_grad_enabled() and any(each.requires_grad for each in tensors):
                self._readers.setdefault(key, place_of(frame))
            write = None if node is None else store.first_write(node.end)
            if node is not None and write is not None and write.time <= self._begin:
                self._look_at_stale(node, write, tensor, store)

    def _look_at_stale(self, node: Made, write: Write, tensor: Tensor, store: Store) -> None:
        if not _is_changed(tensor, write.snapshot):
            return
        read = next((use for use in reversed(store.uses) if use.time < write.time), node)
        self._report(
            Incident(
                cause="stale",
                operator=write.operator,
                place=write.place,
                is_leaf=write.is_leaf,
                saved_operator=read.operator,
                saved_place=read.place,
                region=read.region or "checkpoint",
            )
        )

    def note_write(self, traits: Traits, tensor: Tensor, store: Store, place: Place | None) -> None:
        """Keep what is about to be written to, if it was there before the backward."""
        key = tensor.untyped_storage()._cdata
        if key in self._repeated or len(self._repeated) >= _MAX_REPEATED or store.born > self._begin:
            return
        if not can_look(tensor):
            return
        with torch._C._DisableTorchDispatch(), torch.no_grad():  # private
            self._repeated[key] = _Repeated(tensor, tensor.detach().clone(), traits.name, place)

    def end_backward(self) -> None:
        """Report what the recomputations have left changed."""
        repeated, self._repeated = self._repeated, {}
        readers, self._readers = self._readers, {}
        for key, each in repeated.items():
            with torch._C._DisableTorchDispatch(), torch.no_grad():  # private
                is_changed = differs(each.tensor.detach(), each.before)
            if is_changed:
                self._report(
                    Incident(
                        cause="misread" if key in readers else "repeated",
                        operator=each.operator,
                        place=each.place,
                        saved_place=readers.get(key),
                        region="checkpoint",
                    )
                )


def _is_changed(tensor: Tensor, snapshot: Any) -> bool:
    """Whether the storage has other bytes than before; True where nothing was kept to compare with."""
    storage = tensor.untyped_storage()
    if snapshot is None or snapshot.nbytes() != storage.nbytes():
        return True
    with torch._C._DisableTorchDispatch(), torch.no_grad():  # private
        now, then = (torch.empty(0, dtype=torch.uint8, device=tensor.device).set_(each) for each in (storage, snapshot))
        return not torch.equal(now, then)  # host sync: armed steps only, where something was written to
