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
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.utils import _python_dispatch
from torch.utils._python_dispatch import TorchDispatchMode

from ...guard import Site
from ...hooks import out_of_dynamo
from ..modes import is_stack_ours, leave, leave_soon
from ..operators import Operation, Traits, run, traits_of, written
from .calls import Call
from .history import History
from .incidents import Incident
from .nodes import NodeRecorder
from .phases import Phase, phase_of
from .predictions import Predictor
from .readers import BackwardReader
from .recomputations import Recomputations
from .regions import next_sequence
from .rescaled import Rescaled
from .writes import WriteRecorder

__all__ = ["InplaceWatch"]

_OURS = "loopscope."
_of_thread = threading.local()
_MAX_OPERATORS = 300_000
"""An armed loop that takes no optimizer steps is watched for so long, about 5 s."""


class InplaceWatch(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch
    """Watches the operators of a thread for as long as anyone wants it: one for all agents of the thread.

    We join the mode stack only on top of what is ours, as the user's `with` would pop whatever is on top in place of
    his own, and leave it only from the top; until then the watch passes through, and leaves after one of the operators
    to come.
    """

    supports_higher_order_operators = True

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch
        self.thread = threading.get_ident()
        self._pid = os.getpid()
        self._users: dict[object, tuple[Site, Callable[[Incident], None]]] = {}
        self._site: Site | None = None
        self._last_site: Site | None = None
        self._is_entered = False
        self._num_operators = 0
        self._begin_anew()

    def _begin_anew(self) -> None:
        self.history = History()
        self._nodes = NodeRecorder(self.history)
        self._writes = WriteRecorder(self.history, self._nodes)
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
            if not is_stack_ours() or not all(type(mode).__module__.startswith(_OURS) for mode in modes):
                return False
            self.__enter__()  # type: ignore[no-untyped-call]  # torch
            self._is_entered = True
        if not self._users:
            self._nodes.sequence, self._num_operators = next_sequence(), 0
        self._users[user] = (site, report)
        self._choose_site()
        return True

    def release(self, user: object) -> bool:
        """Report to `user` no longer, and leave the stack after the last one; return whether nothing is left to do."""
        if self._users.pop(user, None) is not None:
            self._choose_site()
            if not self._users:
                self._begin_anew()
        if self._users or not self._is_entered:
            return True
        if self.thread == threading.get_ident() and leave(self):
            self._is_entered = False
        return not self._is_entered

    def _choose_site(self) -> None:
        self._site = next((site for site, _ in self._users.values()), None)
        self._last_site = self._site or self._last_site

    def _leave_soon(self) -> None:
        """The last user has gone where the stack could not be left: on another thread, or in a compiled function."""
        if self._last_site is not None and self._is_entered and self.thread == threading.get_ident():
            leave_soon(self, self._last_site, is_wanted=lambda: self.is_on, left=self._note_left)

    def _note_left(self) -> None:
        self._is_entered = False

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
        site, call = self._site, None
        if site is None or os.getpid() != self._pid or not isinstance(function, OpOverload):
            if site is None:
                self._leave_soon()
            return run(function, args, keywords)
        if site.is_enabled:
            with site:
                call = self._begin(function, args, keywords, sys._getframe(1))
        result = run(function, args, keywords)
        if call is not None and self._site is not None:
            with site:
                self._finish(call, result)
        return result

    def _begin(self, function: Any, args: Sequence[Any], keywords: Mapping[str, Any], frame: FrameType) -> Call | None:
        self._num_operators += 1
        if self._num_operators > _MAX_OPERATORS:
            self._users.clear()
            self._choose_site()
            self._begin_anew()
            return None
        if torch.is_inference_mode_enabled():
            return None
        traits = traits_of(function)
        node: Any = torch._C._current_autograd_node()  # None in forward
        if self._nodes.is_at_rest and self._is_no_concern(traits, node, args, keywords):
            return None
        self.history.time += 1
        phase = Phase.FORWARD if node is None else phase_of(frame)
        call = Call(traits, args, keywords, frame, phase, None if node is None else node._sequence_nr())
        if traits.writes:
            call.written = written(traits, args, keywords)
        if phase is Phase.NODE or phase is Phase.FUNCTION:
            self._reader.look(Operation(function, traits, args, keywords), call)
        elif phase is Phase.RECOMPUTATION:
            self._recomputations.look(call)
        if call.written:
            self._before_write(call)
        return call

    def _is_no_concern(self, traits: Traits, node: Any, args: Sequence[Any], keywords: Mapping[str, Any]) -> bool:
        """Whether an operator without a node reads and writes nothing of interest: most of an optimizer's, and those
        of a backward between whose forward and itself nothing was written to.
        """
        if node is None:
            return not traits.writes or not self._writes.concerns(written(traits, args, keywords))
        if traits.writes or self._reader.has_hook_writes:
            return False
        made = self.history.made.get(node._sequence_nr())
        return made is None or self.history.last_write <= made.end

    def _before_write(self, call: Call) -> None:
        if call.phase is Phase.FORWARD:
            self._predictor.look(call)
        elif call.phase is Phase.RECOMPUTATION:
            self._recomputations.before_write(call, lambda: self._writes.place(call))
        elif call.phase is Phase.HOOK:
            self._reader.look_at_hook(call)
        call.snapshots = self._writes.snapshots(call)

    def _finish(self, call: Call, result: Any) -> None:
        made = None
        if call.phase is Phase.FORWARD or call.phase is Phase.RECOMPUTATION:
            made = self._nodes.note(call, result)
        for tensor, store, write in self._writes.note(call) if call.written else ():
            if call.phase is Phase.FORWARD and self._nodes.open_function is None:
                self._rescaled.note_write(call.traits, tensor, store, write)
        if made is None:
            return
        if call.phase is Phase.FORWARD:
            self._rescaled.note_use(made, call)
        else:
            self._recomputations.look_at_twin(made, call)
