"""CompileProbe: notes what torch.compile does, from dynamo's metrics, counters and loggers; it patches nothing."""

from __future__ import annotations

import dataclasses
import logging
import sys
import threading
from collections.abc import Iterator

import torch

from ...guard import Site
from ...hooks import HookSet
from ...notes import CompileNote
from .listener import Heard, Listener, is_limit
from .metrics import CompilationQueue
from .places import Line, parse_break

__all__ = ["CompileProbe"]

_logger = logging.getLogger("loopscope")


class CompileProbe:
    """Watches dynamo from `install` to `remove`. It never imports dynamo: where nothing is compiled, nothing is there.

    `collect` may be called from any thread.
    """

    name = "compiles"

    def __init__(self, hooks: HookSet, site: Site) -> None:
        self._listener = Listener(hooks, site)
        self._queue: CompilationQueue | None = None
        self._sites_of_breaks: dict[Line, Line] = {}
        self._num_skips = 0
        self._has_told_loss = self._is_installed = False
        self._lock = threading.Lock()

    def install(self) -> None:
        """Listen, and take what dynamo has done so far as known."""
        if not self._is_installed:
            self._is_installed = True
            self._listener.start()
            self._find_dynamo()
            if self._queue is not None:
                self._queue.forget()
                self._num_skips = _count_skips()

    def remove(self) -> None:
        """Leave everything as it was; a second call does nothing. What is noted already may still be collected."""
        if self._is_installed:
            self._is_installed = False
            self._listener.stop()

    def collect(self) -> tuple[CompileNote, ...]:
        """Return what happened since the last call, nothing where another thread is at it."""
        if not self._has_news() or not self._lock.acquire(blocking=False):
            return ()
        try:
            return tuple(self._collect())
        finally:
            self._lock.release()

    def _has_news(self) -> bool:
        if self._queue is None:
            self._find_dynamo()
            return self._queue is not None
        if self._is_installed and not self._listener.is_in_place:
            self._listener.start()
        return self._queue.has_news or bool(self._listener.notes) or _count_skips() != self._num_skips

    def _find_dynamo(self) -> None:
        """Look whether dynamo is there; what it compiled since it was imported is news."""
        utils = sys.modules.get("torch._dynamo.utils")
        if utils is None or not self._is_installed or not hasattr(utils, "counters"):
            return
        missing = [name for name in ("_compilation_metrics", "guard_failures") if not hasattr(utils, name)]
        if missing:
            _logger.warning("loopscope: this torch has no %s; of compilations less is known", " and ".join(missing))
        self._listener.start()  # dynamo's callbacks are there by now
        self._queue = CompilationQueue(utils, self._listener.begin_of)

    def _collect(self) -> Iterator[CompileNote]:
        assert self._queue is not None
        compiled = self._queue.take()
        heard = [self._listener.notes.popleft() for _ in range(len(self._listener.notes))]
        limits = {note.compile_id: note for note in heard if note.kind == "limit"}
        yield from (note for note in heard if note.kind != "limit")
        for note in compiled:
            yield from self._breaks_of(note)
            told = limits.pop(note.compile_id, None) if note.kind == "limit" else None
            yield dataclasses.replace(told, reasons=note.reasons or told.reasons) if told else note
        yield from limits.values()
        if any(note.kind == "lost" for note in compiled):
            yield from self._leftover_breaks()
        yield from self._untold_skips(sum(note.kind == "cudagraph_skip" for note in heard))

    def _breaks_of(self, frame: CompileNote) -> list[CompileNote]:
        """Take the breaks of a frame that is compiled by now; each line once."""
        if frame.kind not in {"frame", "failure"}:
            return []
        own = [heard for heard in list(self._listener.breaks) if heard.compile_id == frame.compile_id]
        if not own and frame.is_resumed and frame.variants == 1 and not self._listener.can_hear_breaks:
            return [CompileNote(kind="break", compile_id=frame.compile_id, frame=frame.frame, site=frame.site)]
        for heard in own:
            self._listener.breaks.remove(heard)
        breaks = [note for heard in own if (note := self._break(heard, frame)) is not None]
        return list({note.site: note for note in reversed(breaks)}.values())[::-1]

    def _leftover_breaks(self) -> Iterator[CompileNote]:
        """Tell the breaks of frames whose metrics are lost."""
        if not self._has_told_loss:
            self._has_told_loss = True
            _logger.warning("loopscope: dynamo's metrics of some compilations were overwritten before they were read")
        breaks = self._listener.breaks
        for heard in [breaks.popleft() for _ in range(len(breaks))]:
            if (note := self._break(heard, None)) is not None:
                yield note

    def _untold_skips(self, num_told: int) -> Iterator[CompileNote]:
        before, self._num_skips = self._num_skips, _count_skips()
        if (num_untold := self._num_skips - before - num_told) > 0:
            is_without_cuda = not torch.cuda.is_available()
            yield CompileNote(kind="cudagraph_skip", count=num_untold, is_without_cuda=is_without_cuda)

    def _break(self, heard: Heard, frame: CompileNote | None) -> CompileNote | None:
        found = parse_break(heard.message)
        if is_limit(heard.error) or is_limit(found.reason):
            return None  # told as a fallback
        if found.location is not None and found.site is not None:
            self._sites_of_breaks[found.location] = found.site
        known = self._sites_of_breaks.get(found.location) if found.location else None
        line = found.site or known or heard.called_from or found.location
        return CompileNote(
            kind="break",
            compile_id=heard.compile_id,
            frame=frame.frame if frame else None,
            site=line.site if line else frame.site if frame else None,
            called_from=heard.called_from.site if heard.called_from else None,
            location=f"{found.location.file}:{found.location.number}" if found.location else "",
            text=found.reason if "Explanation" in found.reason or not heard.error else heard.error,
            skips_frame=found.skips_frame,
        )


def _count_skips() -> int:
    counters = getattr(sys.modules.get("torch._dynamo.utils"), "counters", None)
    inductor = counters.get("inductor") if counters is not None else None
    return int(inductor.get("cudagraph_skips", 0)) if inductor else 0
