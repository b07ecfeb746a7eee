"""CompilationQueue: dynamo's own record of each compilation, taken once and told as a note."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ...notes import CompileNote
from .failures import GuardFailures, Variants
from .listener import Begin
from .places import FrameName, frame_name, lines_of_stack, place_of

__all__ = ["CompilationQueue"]

_MICROSECONDS = 1e6
_FEW = 32
"""So many entries the deque holds for certain."""
_LIMIT = "recompile limit exceeded"
_SOFT_FAILURES = ("Unsupported", "UserError", "SkipFrame", "FailOnRecompileLimitHit", "RecompileError")
"""Failures that are graph breaks, or that the user asked for."""


class CompilationQueue:
    """Reads `torch._dynamo.utils._compilation_metrics`, a deque that forgets all but the latest 64 or so.

    The latest is told by its identity. What the deque forgot between two looks is counted by dynamo's own counter of
    graphs. Fields are read by `getattr`: what a version does not have is absent.
    """

    def __init__(self, utils: Any, begin_of: Callable[[str | None], Begin]) -> None:
        self._utils, self._begin_of = utils, begin_of
        self._modes: dict[str, set[bool]] = {}
        self._last: Any = None
        self._failures = GuardFailures()
        self._num_graphs = 0

    def forget(self) -> None:
        """Take what was compiled so far as known."""
        self._last = self._latest()
        self._failures.forget(getattr(self._utils, "guard_failures", None))
        self._num_graphs = self._count_graphs()

    @property
    def has_news(self) -> bool:
        """Whether anything was compiled since the last `take`; costs an attribute and a comparison."""
        return self._latest() is not self._last

    def take(self) -> list[CompileNote]:
        """Return what was compiled since the last call, in its order."""
        entries = list(getattr(self._utils, "_compilation_metrics", ()))
        begin = next((i + 1 for i in reversed(range(len(entries))) if entries[i] is self._last), 0)
        is_all_there = begin > 0 or (self._last is None and len(entries) < _FEW)
        self._last = entries[-1] if entries else None
        self._failures.read(getattr(self._utils, "guard_failures", None))
        notes = [note for entry in entries[begin:] if (note := self._note(entry)) is not None]
        num_graphs, self._num_graphs = self._num_graphs, self._count_graphs()
        num_lost = self._num_graphs - num_graphs - sum(note.kind == "frame" and note.is_graph for note in notes)
        if not is_all_there and num_lost > 0:
            notes.insert(0, CompileNote(kind="lost", count=num_lost))
        return notes

    def _latest(self) -> Any:
        entries = getattr(self._utils, "_compilation_metrics", None)
        return entries[-1] if entries else None

    def _count_graphs(self) -> int:
        return int(self._utils.counters.get("stats", {}).get("unique_graphs", 0))

    def _note(self, entry: Any) -> CompileNote | None:
        def field(name: str) -> Any:
            return getattr(entry, name, None)

        compile_id = field("compile_id")
        if field("is_runtime"):
            return None
        if field("is_forward") is False or type(entry).__name__.startswith("Bwd"):
            seconds = _seconds(entry, "backward_cumulative_compile_time_us", "duration_us")
            return CompileNote(kind="backward", compile_id=compile_id, seconds=seconds)
        failure, reason = field("fail_type"), str(field("fail_reason") or "")
        code, reasons = self._reasons(entry)
        if _LIMIT in reason:
            return self._limit(entry, code, reasons) if failure not in _SOFT_FAILURES[3:] else None
        if not field("co_name"):
            return None
        begin = self._begin_of(compile_id)
        is_switched = self._is_switched(compile_id, begin.is_training)
        lines = lines_of_stack(field("stack_trace"))[:-1]  # it lacks the two innermost callers
        place = place_of(_name(entry), lines, begin.called_from)
        if failure and failure not in _SOFT_FAILURES and field("config_suppress_errors"):
            return CompileNote(kind="failure", compile_id=compile_id, text=reason, **place)
        variants = _variants(code, compile_id) if reasons else None
        is_code = bool(field("has_guarded_code")) if hasattr(entry, "has_guarded_code") else not failure
        return CompileNote(
            kind="frame",
            compile_id=compile_id,
            reasons=reasons,
            variants=(field("cache_size") or 0) + is_code,
            seconds=_seconds(entry, "dynamo_cumulative_compile_time_us", "duration_us", "entire_frame_compile_time_s"),
            is_code=is_code,
            is_graph=is_code and bool(field("graph_op_count")),
            is_resumed=_name(entry).is_resumed,
            is_training_switched=is_switched
            or (
                variants is not None and all("grad_mode" in text for text in reasons) and variants.is_training_switched
            ),
            type_now=variants.type_of(reasons) if variants is not None else None,
            **place,
        )

    def _reasons(self, entry: Any) -> tuple[Any, tuple[str, ...]]:
        if hasattr(entry, "recompile_reason"):
            first = entry.recompile_reason
            return self._failures.of(entry.compile_id, first) if first else (None, ())
        if not getattr(entry, "cache_size", 0):
            return None, ()
        reasons = self._failures.of_code(entry.co_name, entry.co_filename, entry.co_firstlineno)
        return None, reasons or ("unknown",)

    def _limit(self, entry: Any, code: Any, reasons: tuple[str, ...]) -> CompileNote:
        place: dict[str, Any] = {}
        if code is not None:
            name = frame_name(code.co_name, code.co_filename, code.co_firstlineno)
            place = {"frame": name.label(name.line), "site": name.line.site}
        return CompileNote(kind="limit", compile_id=entry.compile_id, reasons=reasons, **place)

    def _is_switched(self, compile_id: str | None, is_training: bool | None) -> bool:
        """Whether the modules of a frame are in another mode than they were for any variant so far."""
        frame, _, variant = (compile_id or "").rpartition("/")
        if variant == "0":
            self._modes.pop(frame, None)  # `torch._dynamo.reset` begins to count anew
        if is_training is None:
            return False
        seen = self._modes.setdefault(frame, set())
        is_switched = bool(seen) and is_training not in seen
        seen.add(is_training)
        return is_switched


def _variants(code: Any, compile_id: str | None) -> Variants:
    from torch._C._dynamo import eval_frame

    return Variants(getattr(eval_frame, "_debug_get_cache_entry_list", None), code, compile_id)


def _name(entry: Any) -> FrameName:
    return frame_name(entry.co_name, entry.co_filename or "<unknown>", entry.co_firstlineno or 0)


def _seconds(entry: Any, *names: str) -> float:
    for name in names:
        value = getattr(entry, name, None)
        if value:
            return float(value) / (_MICROSECONDS if name.endswith("_us") else 1)
    return 0.0
