"""PauseProbe: how long the garbage collector held the process up, by the interpreter's own callbacks."""

from __future__ import annotations

import contextlib
import gc
import time
from collections.abc import Callable, Sequence

from ..guard import Site
from ..hooks import HookSet
from ..notes import PauseNote

__all__ = ["PauseProbe"]

_MIN_SECONDS = 0.001
"""Pauses of a step that sum up to less are not worth a note: young generations take microseconds."""


class PauseProbe:
    """Adds up the collections of any thread: all of them wait, as a collection holds the GIL."""

    name = "pauses"

    def __init__(self, hooks: HookSet, site: Site, now_ns: Callable[[], int] = time.perf_counter_ns) -> None:
        self._hooks, self._site, self._now_ns = hooks, site, now_ns
        self._begin_ns = 0
        self._spent_ns = 0
        self._oldest = 0

    def install(self) -> None:
        """Listen to the collector."""
        listen = self._hooks.shield(self._see, self._site)
        gc.callbacks.append(listen)

        def leave() -> None:
            with contextlib.suppress(ValueError):  # somebody has emptied the list
                gc.callbacks.remove(listen)

        self._hooks.on_remove(leave)

    def remove(self) -> None:
        """Nothing beyond what the HookSet removes."""

    def collect(self) -> Sequence[PauseNote]:
        """Return what the collections since the last call took, if that was long."""
        if not self._spent_ns:
            return ()
        spent_ns, oldest = self._spent_ns, self._oldest
        self._spent_ns = self._oldest = 0
        return (PauseNote(seconds=spent_ns / 1e9, generation=oldest),) if spent_ns >= _MIN_SECONDS * 1e9 else ()

    def _see(self, phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            self._begin_ns = self._now_ns()
        elif self._begin_ns:
            self._spent_ns += self._now_ns() - self._begin_ns
            self._begin_ns, self._oldest = 0, max(self._oldest, info["generation"])
