"""WriteRecorder: notes what operators write to, and what was there before, where PyTorch is blind."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..operators import Traits
from .calls import Call
from .evidence import can_look
from .history import History, Layout, Store, Write
from .nodes import NodeRecorder
from .phases import Phase
from .places import Place, Trail, inner_of, place_of
from .regions import CHECKPOINTED, region

__all__ = ["WriteRecorder"]


class WriteRecorder:
    """Notes the writes to storages that a node may have saved."""

    def __init__(self, history: History, nodes: NodeRecorder) -> None:
        self._history, self._nodes = history, nodes

    def concerns(self, targets: Sequence[Tensor]) -> bool:
        """Whether anybody has saved what is about to be written to in forward, or may: most writes are none's."""
        stores = self._history.stores
        return any(target.untyped_storage()._cdata in stores for target in targets) or region() == CHECKPOINTED

    def snapshots(self, call: Call) -> dict[int, Any]:
        """Return copies of what is about to be written to, by storage, where PyTorch may not notice the write."""
        snapshots: dict[int, Any] = {}
        for tensor in call.written:
            key = tensor.untyped_storage()._cdata
            store = self._history.stores.get(key)
            if store is not None and store.uses and _may_be_unnoticed(call.traits, tensor, store) and can_look(tensor):
                with torch._C._DisableTorchDispatch():  # private
                    snapshots[key] = self._history.snapshot(tensor)
        return snapshots

    def note(self, call: Call) -> list[tuple[Tensor, Store, Write]]:
        """Note what an operator has written to, and return that."""
        history, function = self._history, self._nodes.open_function
        trail: Trail | None = None
        snapshots = call.snapshots or {}
        is_checkpointed = region() == CHECKPOINTED
        is_region = function is not None or call.phase is Phase.RECOMPUTATION or is_checkpointed
        node = call.number if call.phase is not Phase.RECOMPUTATION else None
        noted: list[tuple[Tensor, Store, Write]] = []
        for tensor in call.written:
            key = tensor.untyped_storage()._cdata
            found = history.store_of(tensor) if is_region or key in history.stores else None
            if found is None:
                continue  # nobody has saved it so far
            trail = trail or (Trail(self.place(call)) if is_region else Trail.of(call.frame))
            write = Write(
                history.time, call.traits.name, trail, self._nodes.sequence, tuple(tensor.shape), str(tensor.dtype),
                None if tensor.is_inference() else tensor._version,
                is_leaf=tensor.is_leaf and tensor.requires_grad, layout=Layout.of(tensor),
                node=node if function is None else function.sequence, snapshot=snapshots.get(key),
                call=self._nodes.call_of_region()[0] if is_checkpointed else None,
            )  # fmt: skip
            history.add_write(found[1], write)
            noted.append((tensor, found[1], write))
        return noted

    def place(self, call: Call) -> Place | None:
        """Return the line of a write; that of the forward where the recomputation comes by PyTorch's lines only."""
        place, places, name = place_of(call.frame), self._history.places, call.traits.name
        is_checkpointed = region() == CHECKPOINTED
        if call.phase is not Phase.RECOMPUTATION and self._nodes.open_function is None and not is_checkpointed:
            return place
        inner, number = inner_of(call.frame), self._nodes.call_of_region()[0]
        if call.phase is not Phase.RECOMPUTATION:
            if place is not None:
                places[number, name, inner] = place
            return place
        if inner[0] or number is not None:
            return places.get((number, name, inner), place)
        node: Any = torch._C._current_autograd_node()  # no line of the user's: where the region was called
        made = None if node is None else self._history.made.get(node._sequence_nr())
        if made is None or made.place is None or place is None:
            return place
        return made.place._replace(library=place.library)


def _may_be_unnoticed(traits: Traits, tensor: Tensor, store: Store) -> bool:
    """Whether PyTorch may not count the write, may check nothing there, or takes no account of it in its gradients."""
    if not tensor.requires_grad or (traits.is_rescaling and not tensor.is_leaf and not torch.is_grad_enabled()):
        return True
    return any(made.region for made in store.uses)
