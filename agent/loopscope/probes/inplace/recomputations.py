"""Recomputations: what a checkpointed region finds changed when it is run once more, and what it changes once more."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from .calls import Call
from .evidence import can_look, differs, is_changed
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

    def look(self, call: Call) -> None:
        """Report what the operator reads that others have changed since the region's forward."""
        node = None if call.number is None else self._history.made.get(call.number)
        tensors = call.tensors()
        for tensor, store in self._earlier(tensors, call.written):
            key = tensor.untyped_storage()._cdata
            if key in self._repeated and torch.is_grad_enabled() and any(each.requires_grad for each in tensors):
                self._readers.setdefault(key, place_of(call.frame))
            write = None if node is None else store.first_write(node.end)
            if node is None or write is None or (write.call is not None and write.call == node.call):
                continue  # what the region itself has written later is not stale for all that it reads
            self._look_at_stale(node, write, tensor, store)

    def look_at_twin(self, made: Made, call: Call) -> None:
        """Report what the operator has read that its own region had changed after it, in the forward."""
        original = None if made.twin is None else self._history.originals.get(made.twin)
        if original is None:
            return
        for tensor, store in self._earlier(call.tensors(), call.written):
            write = store.first_write(original.end)
            if write is not None and write.call == made.call and tensor.untyped_storage()._cdata not in self._repeated:
                self._look_at_stale(original, write, tensor, store)

    def _earlier(self, tensors: Sequence[Tensor], targets: Sequence[Tensor]) -> Iterator[tuple[Tensor, Store]]:
        """Yield what was there before the backward, and has been written to: the operator's own targets are not."""
        for tensor in tensors:
            store = self._history.stores.get(tensor.untyped_storage()._cdata)
            if store is None or not store.writes or store.born > self._begin or any(tensor is each for each in targets):
                continue
            yield tensor, store

    def _look_at_stale(self, node: Made, write: Write, tensor: Tensor, store: Store) -> None:
        if write.time > self._begin or not is_changed(tensor, write.snapshot):
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

    def before_write(self, call: Call, place: Callable[[], Place | None]) -> None:
        """Keep what is about to be written to, if it was there before the backward."""
        for tensor in call.written:
            key = tensor.untyped_storage()._cdata
            store = self._history.stores.get(key)
            if store is None or store.born > self._begin or key in self._repeated:
                continue
            if len(self._repeated) < _MAX_REPEATED and can_look(tensor):
                with torch._C._DisableTorchDispatch(), torch.no_grad():  # private
                    self._repeated[key] = _Repeated(tensor, tensor.detach().clone(), call.traits.name, place())

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
