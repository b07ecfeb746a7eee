"""InplaceWatch: a dispatch mode that is on during armed steps, and knows who made which node and who wrote to what.

It hooks into nothing that autograd does: what backward uses is what the operators of backward read. A node is known by
its sequence number, which stands right before its operator is dispatched.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from types import FrameType
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch._ops import HigherOrderOperator
from torch.utils import _python_dispatch
from torch.utils._python_dispatch import TorchDispatchMode

from ...guard import Site
from ...hooks import out_of_dynamo
from ..operators import Operation, Traits, run, tensors_in, traits_of, written
from .evidence import can_look
from .history import History, Layout, Made, Write
from .incidents import Incident
from .places import FUNCTION, Place, inner_of, is_inside, place_of
from .predictions import Predictor
from .readers import BackwardReader, Phase, phase_of
from .recomputations import Recomputations
from .regions import CHECKPOINTED, is_in_compiled, is_packing, next_sequence, region
from .rescaled import Rescaled

__all__ = ["InplaceWatch"]

_OURS = "loopscope."
_of_thread = threading.local()
_MAX_OPERATORS = 300_000
"""An armed loop that takes no optimizer steps is watched for so long, about 5 s."""
_MAX_STORES = 64
"""Storages of a custom function that are remembered."""
_MAX_UNSEEN = 8
"""Nodes without an operator of their own between two operators: functions that compute nothing."""


class _Call(NamedTuple):
    """An operator that is about to run."""

    traits: Traits
    frame: FrameType
    phase: Phase
    node: int | None
    tensors: list[Tensor]
    written: list[Tensor]
    snapshots: dict[int, Any]


class InplaceWatch(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch
    """Watches the operators of a thread for as long as anyone wants it: one for all agents of the thread.

    We join the mode stack only on top of what is ours, as the user's `with` would pop whatever is on top in place of
    his own, and leave it only from the top; until then the watch passes through.
    """

    supports_higher_order_operators = True

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch
        self.thread = threading.get_ident()
        self._pid = os.getpid()
        self._users: dict[object, tuple[Site, Callable[[Incident], None]]] = {}
        self._is_entered = False
        self._sequence = self._num_operators = 0
        self._begin_anew()

    def _begin_anew(self) -> None:
        self.history = History()
        self._open_function: Made | None = None
        self._reader = BackwardReader(self.history, self._report)
        self._recomputations = Recomputations(self.history, self._report)
        self._rescaled = Rescaled(self.history, self._report)
        self._predictor = Predictor(self.history, self._report)

    @classmethod
    def of_thread(cls) -> InplaceWatch:
        """Return the one of the current thread."""
        watch: InplaceWatch | None = getattr(_of_thread, "watch", None)
        if watch is None or watch._pid != os.getpid():
            watch = _of_thread.watch = cls()
        return watch

    @property
    def is_on(self) -> bool:
        """Whether anyone wants it."""
        return bool(self._users)

    def retain(self, user: object, site: Site, report: Callable[[Incident], None]) -> bool:
        """Report to `user`, behind its guard site; False where a mode of somebody else's is on the stack."""
        if not self._is_entered:
            modes = _python_dispatch._get_current_dispatch_mode_stack()
            if is_in_compiled() or not all(type(mode).__module__.startswith(_OURS) for mode in modes):
                return False
            self.__enter__()  # type: ignore[no-untyped-call]  # torch
            self._is_entered = True
        if not self._users:
            self._sequence, self._num_operators = next_sequence(), 0
        self._users[user] = (site, report)
        return True

    def release(self, user: object) -> bool:
        """Report to `user` no longer, and leave the stack after the last one; return whether nothing is left to do."""
        if self._users.pop(user, None) is not None and not self._users:
            self._begin_anew()
        if self._users or not self._is_entered:
            return True
        is_here = self.thread == threading.get_ident() and not is_in_compiled()
        if is_here and _python_dispatch._get_current_dispatch_mode() is self:
            self.__exit__(None, None, None)  # type: ignore[no-untyped-call]  # torch
            self._is_entered = False
        return not self._is_entered

    def _report(self, incident: Incident) -> None:
        for _, report in list(self._users.values()):
            report(incident)

    @classmethod
    def ignore_compile_internals(cls) -> bool:
        """Have compiled functions run as compiled."""
        return True

    def begin_backward(self, roots: Sequence[Tensor]) -> None:
        """A backward that no other backward contains begins at `roots`."""
        self._rescaled.begin_backward(roots)
        self._recomputations.begin_backward()

    def end_backward(self) -> None:
        """It has ended, or raised."""
        self._recomputations.end_backward()
        self._reader.end_backward()
        self._predictor.forget()

    def end_step(self) -> None:
        """An optimizer step has ended."""
        self._predictor.tell()
        self.history.prune()

    def tell(self) -> None:
        """Report what is to be expected, without waiting for a backward to show it."""
        self._predictor.tell()

    @out_of_dynamo
    def __torch_dispatch__(
        self, function: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        keywords = {} if kwargs is None else kwargs
        if not self._users or os.getpid() != self._pid or isinstance(function, HigherOrderOperator):
            return run(function, args, keywords)
        site, call = next(iter(self._users.values()))[0], None
        if site.is_enabled:
            with site:
                call = self._begin(function, args, keywords, sys._getframe(1))
        result = run(function, args, keywords)
        if call is not None and self._users:
            with site:
                self._finish(call, result)
        return result

    def _begin(self, function: Any, args: Sequence[Any], keywords: Mapping[str, Any], frame: FrameType) -> _Call | None:
        self._num_operators += 1
        if self._num_operators > _MAX_OPERATORS:
            self._users.clear()
            self._begin_anew()
            return None
        if torch.is_inference_mode_enabled():
            return None
        traits = traits_of(function)
        tensors = list(tensors_in(args))
        if keywords:
            tensors += tensors_in(list(keywords.values()))
        node: Any = torch._C._current_autograd_node()  # None in forward
        phase = Phase.FORWARD if node is None else phase_of(frame)
        number = None if node is None else node._sequence_nr()
        targets = list(written(traits, args, keywords)) if traits.writes else []
        self.history.time += 1
        if phase is Phase.NODE or phase is Phase.FUNCTION:
            self._reader.look(Operation(function, traits, args, keywords), tensors, number, phase)
        elif phase is Phase.RECOMPUTATION:
            self._recomputations.look(tensors, targets, number, frame)
        elif phase is Phase.HOOK and targets:
            self._reader.look_at_hook(traits, targets, frame)
        snapshots = self._before_write(traits, targets, phase, frame) if targets else {}
        return _Call(traits, frame, phase, number, tensors, targets, snapshots)

    def _before_write(self, traits: Traits, targets: list[Tensor], phase: Phase, frame: FrameType) -> dict[int, Any]:
        """Look at what is about to be written to; return copies of what PyTorch may not notice."""
        snapshots: dict[int, Any] = {}
        for tensor in targets:
            key = _key(tensor)
            store = self.history.stores.get(key)
            if store is not None and phase is Phase.RECOMPUTATION:
                self._recomputations.note_write(traits, tensor, store, self._place_of_write(traits, phase, frame))
            if store is None or not store.uses:
                continue
            if phase is Phase.FORWARD:
                self._predictor.look(traits, tensor, store, frame)
            if (not tensor.requires_grad or any(made.region for made in store.uses)) and can_look(tensor):
                with torch._C._DisableTorchDispatch():  # private
                    snapshots[key] = self.history.snapshot(tensor)
        return snapshots

    def _finish(self, call: _Call, result: Any) -> None:
        sequence = next_sequence()
        is_forward = (call.phase is Phase.FORWARD or call.phase is Phase.RECOMPUTATION) and not is_packing(call.frame)
        made = None
        if is_forward and sequence != self._sequence:
            made = self._note_node(call, sequence, result)
        elif is_forward and self._open_function is not None:
            self._extend_function(call)
        self._sequence = sequence if is_forward else self._sequence
        if call.written:
            self._note_writes(call)
        if made is not None and call.phase is Phase.FORWARD:
            self._rescaled.note_use(made, call.tensors)

    def _note_node(self, call: _Call, sequence: int, result: Any) -> Made:
        frame, history = call.frame, self.history
        function_frame = None if torch.is_grad_enabled() else is_inside(frame, FUNCTION)
        operator = call.traits.name
        if function_frame is not None:
            operator = getattr(function_frame.f_locals.get("cls"), "__name__", operator)
        place = place_of(frame if function_frame is None else function_frame.f_back)
        hooks = region()
        for unseen in range(max(self._sequence, sequence - 1 - _MAX_UNSEEN), sequence - 1):
            history.add_made(Made(unseen, history.time, history.time, operator, place, hooks), [])
        made = Made(
            sequence - 1, history.time, history.time, operator, place, hooks,
            is_function=function_frame is not None, is_recomputed=call.phase is Phase.RECOMPUTATION,
            inner=inner_of(frame) if hooks == CHECKPOINTED or call.phase is Phase.RECOMPUTATION else None,
        )  # fmt: skip
        outputs = list(tensors_in(result if isinstance(result, list | tuple) else (result,)))
        stores = history.stores_of([*call.tensors, *outputs])
        history.add_made(made, stores)
        if not call.traits.is_view:
            num_inputs = {key for key, _ in history.stores_of(call.tensors)}
            for key, store in stores:
                if key not in num_inputs or call.traits.writes:
                    store.producer = made
        self._open_function = made if made.is_function else None
        return made

    def _extend_function(self, call: _Call) -> None:
        """An operator without a node after a custom function's: one of its forward, or what comes after it."""
        made = self._open_function
        if made is None:
            return
        if torch.is_grad_enabled() or is_inside(call.frame, FUNCTION) is None:
            self._open_function = None
            return
        made.end = self.history.time
        if len(made.stores) < _MAX_STORES:
            self.history.extend(made, self.history.stores_of(call.tensors))

    def _note_writes(self, call: _Call) -> None:
        history, function, place = self.history, self._open_function, None
        is_region = function is not None or call.phase is Phase.RECOMPUTATION or region() == CHECKPOINTED
        node = call.node if call.phase is not Phase.RECOMPUTATION else None
        for tensor in call.written:
            key = _key(tensor)
            found = history.store_of(tensor) if is_region or key in history.stores else None
            if found is None:
                continue  # nobody has saved it so far
            place = place or self._place_of_write(call.traits, call.phase, call.frame)
            write = Write(
                history.time, call.traits.name, place, self._sequence, tuple(tensor.shape), str(tensor.dtype),
                _version(tensor), is_leaf=tensor.is_leaf and tensor.requires_grad, layout=Layout.of(tensor),
                node=node if function is None else function.sequence, snapshot=call.snapshots.get(key),
            )  # fmt: skip
            history.add_write(found[1], write)
            if call.phase is Phase.FORWARD and function is None:
                self._rescaled.note_write(call.traits, tensor, found[1], write)

    def _place_of_write(self, traits: Traits, phase: Phase, frame: FrameType) -> Place | None:
        """Return the line of a write; that of the forward where the recomputation comes by PyTorch's lines only."""
        place, places = place_of(frame), self.history.places
        if phase is Phase.RECOMPUTATION:
            return places.get((traits.name, inner_of(frame)), place)
        if place is not None and (self._open_function is not None or region() == CHECKPOINTED):
            places[traits.name, inner_of(frame)] = place
        return place


def _key(tensor: Tensor) -> int:
    key: int = tensor.untyped_storage()._cdata
    return key


def _version(tensor: Tensor) -> int | None:
    return None if tensor.is_inference() else tensor._version
