"""InplaceProbe: arms the watch for the first steps, on demand and after a failure; explains PyTorch's own error."""

from __future__ import annotations

import sys
import threading
from collections import deque
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ...config import Config
from ...guard import Site
from ...hooks import Finish, HookSet
from ...notes import InplaceNote
from .failures import complaint_of, find_culprit
from .incidents import Incident
from .watch import InplaceWatch
from .wording import note_of, unseen_text

__all__ = ["InplaceProbe"]

_STEPS_AFTER_FAILURE = 2
_MAX_PENDING = 200
_WEAK = frozenset({"rescaled", "repeated", "stale"})


class InplaceProbe:
    """Wants the InplaceWatch of the training thread during armed steps, and patches what runs a backward."""

    name = "inplace"

    def __init__(self, hooks: HookSet, site: Site, config: Config, num_optimizers: int) -> None:
        self._hooks, self._site = hooks, site
        self._num_optimizers = max(1, num_optimizers)
        """Each ends a step of its own: a GAN's iteration has two."""
        self._steps_left = config.inplace_armed_steps * self._num_optimizers
        self._is_off = config.inplace_armed_steps == 0
        self._watch: InplaceWatch | None = None
        self._left_behind: list[InplaceWatch] = []
        self._depth: dict[int, int] = {}
        self._pending: deque[InplaceNote] = deque(maxlen=_MAX_PENDING)
        self._told: set[object] = set()
        self._found: dict[object, list[Incident]] = {}
        """What is not told yet, by what is told as one."""

    def install(self) -> None:
        """Patch, and arm."""
        self._hooks.patch(torch.autograd, "backward", self._see_backward, self._site)
        self._hooks.patch(torch.autograd, "grad", self._see_backward, self._site)
        self._renew()

    def remove(self) -> None:
        """Disarm; the HookSet takes the patches out."""
        self._steps_left, self._is_off = 0, True
        self._renew()

    def arm(self, steps: int) -> None:
        """Watch the next `steps` steps of the calling thread."""
        self._steps_left = max(self._steps_left, steps * self._num_optimizers)
        self._renew()

    def end_step(self) -> Sequence[InplaceNote]:
        """A step has ended, on the training thread; return what is new."""
        if self._watch is not None and self._watch.thread == threading.get_ident():
            self._watch.end_step()
            self._tell()
            self._steps_left -= 1  # a step that nobody could watch does not count
        if self._steps_left or self._watch is not None or self._left_behind:
            self._renew()
        return self.collect()

    def collect(self) -> Sequence[InplaceNote]:
        """Return what is new; any thread. What is only to be expected is told on the watched one."""
        if self._watch is not None and self._watch.thread == threading.get_ident():
            self._watch.tell()
            self._tell()
        return [self._pending.popleft() for _ in range(len(self._pending))] if self._pending else ()

    def _renew(self) -> None:
        """Want the watch of this thread where there are steps left, and no other."""
        own = InplaceWatch.of_thread() if self._steps_left else None
        if self._watch is not None and self._watch is not own:
            if self._watch.thread == threading.get_ident():
                self._watch.tell()
                self._tell()
            self._left_behind.append(self._watch)
            self._told.clear()
        self._left_behind = [watch for watch in self._left_behind if watch is not own and not watch.release(self)]
        self._watch = own if own is not None and own.retain(self, self._site, self._report) else None

    def _see_backward(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Finish | None:
        if self._watch is None and not self._depth:
            return self._after_unwatched
        thread = threading.get_ident()
        depth = self._depth[thread] = self._depth.get(thread, 0) + 1
        roots = _roots(args, kwargs)
        watch = self._watch if self._watch is not None and self._watch.thread == thread else None
        if depth == 1 and watch is not None:
            watch.begin_backward(roots)

        def finish(result: Any, is_done: bool) -> None:
            self._leave(thread)
            if depth == 1 and watch is not None and watch.is_on:
                watch.end_backward()
            if not is_done:
                self._explain(sys.exc_info()[1], roots, watch)
            if depth == 1:
                self._tell()

        return finish

    def _after_unwatched(self, result: Any, is_done: bool) -> None:
        if not is_done:
            self._explain(sys.exc_info()[1], (), None)
        self._tell()

    def _leave(self, thread: int) -> None:
        depth = self._depth.pop(thread, 1) - 1
        if depth > 0:
            self._depth[thread] = depth

    def _explain(self, error: BaseException | None, roots: Sequence[Tensor], watch: InplaceWatch | None) -> None:
        """Say what PyTorch's error is about, in a note of the exception."""
        complaint = complaint_of(error)
        if error is None or complaint is None or any("loopscope: " in text for text in getattr(error, "__notes__", ())):
            return
        incident = None
        if watch is not None and watch.is_on:
            incident = find_culprit(complaint, roots, watch.history)
        if incident is None:
            error.add_note(unseen_text(_STEPS_AFTER_FAILURE))
        else:
            note = note_of(incident)
            error.add_note(f"loopscope: {note.message}; {note.remedy}.")
            self._report(incident)
        if not self._is_off:
            self.arm(_STEPS_AFTER_FAILURE)

    def _report(self, incident: Incident) -> None:
        if incident.key not in self._told:
            self._found.setdefault(incident.key, []).append(incident)

    def _tell(self) -> None:
        """Tell what was found; what says less than another incident at the same line only where there is no other."""
        if not self._found:
            return
        found, self._found = self._found, {}
        for key, incidents in sorted(found.items(), key=lambda item: item[1][0].cause in _WEAK):
            place = incidents[0].place
            if incidents[0].cause not in _WEAK or place not in self._told:
                self._told |= {key, place}
                self._pending.append(note_of(*incidents))


def _roots(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Tensor, ...]:
    given = args[0] if args else kwargs.get("tensors", kwargs.get("outputs", ()))
    if isinstance(given, Tensor):
        return (given,)
    return tuple(root for root in given if isinstance(root, Tensor)) if isinstance(given, list | tuple) else ()
