"""CompileJournal: notes of torch.compile, to counters and events."""

from __future__ import annotations

import re
from typing import Literal

from ..catalog import OTHER
from ..notes import CompileNote
from .breaks import explain_break
from .counters import Counters
from .findings import Finding
from .reasons import Reason, explain_recompilation, guard_line, with_type

__all__ = ["CompileJournal"]

_MAX_TOLD = 10_000
_ERROR = re.compile(r"^(?:backend='(?P<backend>.*?)' raised:\n)?(?P<error>.*)", re.DOTALL)
_SWITCHED = "modules were switched from train() to eval() or back"
_Severity = Literal["info", "warning", "critical"]


class CompileJournal:
    """Counts all there is, and makes an event of each compilation, recompilation, line of a break, and fallback."""

    def __init__(self) -> None:
        self._told: set[tuple[str, ...]] = set()

    def take(self, note: CompileNote, counters: Counters) -> Finding | None:
        """Count `note` in; return what it means, None where that was said before or goes without saying."""
        if note.seconds:
            counters.add("loopscope.compile", amount=note.seconds)
        match note.kind:
            case "frame":
                return self._frame(note, counters)
            case "break":
                return self._break(note, counters)
            case "limit":
                return _limit(note, counters)
            case "failure":
                return self._failure(note, counters)
            case "cudagraph_skip":
                return self._skip(note, counters)
            case "backward":
                counters.add("loopscope.backward_compilations")
            case "cudagraph_recording":
                counters.add("loopscope.cudagraph_recordings", amount=note.count)
            case "lost":
                counters.add("loopscope.compilations", amount=note.count)
        return None

    def _frame(self, note: CompileNote, counters: Counters) -> Finding | None:
        if note.is_graph:
            counters.add("loopscope.compilations")
        if not note.is_code:
            return None
        if note.reasons:
            return _recompilation(note, counters)
        if note.is_resumed or not note.is_graph:
            return None  # the rest of a function behind a break: the break was told
        return Finding(
            kind="compilation",
            severity="info",
            message=f"torch.compile compiled {note.frame} in {note.seconds:.2f} s",
            remedy="",
            site=note.site,
            attributes=_attributes(note),
        )

    def _break(self, note: CompileNote, counters: Counters) -> Finding | None:
        reason = explain_break(note.text, note.location)
        site = note.site or OTHER
        counters.add("loopscope.graph_breaks", (site, reason.category))
        if not self._is_new("break", site, reason.category):
            return None
        effect = "runs the whole function in Python" if note.skips_frame else "leaves the graph and goes on in Python"
        return Finding(
            kind="graph_break",
            severity="info" if reason.is_intended else "warning",
            message=f"torch.compile {effect} at {site}: {reason.text}",
            remedy=reason.remedy,
            site=note.site,
            attributes=_attributes(note) | {"category": reason.category, "reason": reason.text},
        )

    def _failure(self, note: CompileNote, counters: Counters) -> Finding | None:
        frame = note.frame or OTHER
        if not self._is_new("failure", frame):
            return None
        counters.add("loopscope.compile_fallbacks", (frame,))
        match = _ERROR.match(note.text)
        error = " ".join(((match and match["error"]) or note.text).split())[:300]
        backend = match["backend"] if match else None
        text = f"the backend {backend} failed: {error}" if backend else f"compiling failed: {error}"
        return Finding(
            kind="compile_fallback",
            severity="warning",
            message=f"{frame} runs eager, without a speed-up: {text} (torch._dynamo.config.suppress_errors hides it)",
            remedy="Set torch._dynamo.config.suppress_errors = False to see the whole error, or take torch.compile off "
            "this function.",
            site=note.site,
            attributes=_attributes(note) | {"category": OTHER, "reason": text},
        )

    def _skip(self, note: CompileNote, counters: Counters) -> Finding | None:
        counters.add("loopscope.cudagraph_skips", amount=note.count)
        text = " ".join(note.text.split())[:300] or "PyTorch gives no reason"
        remedy = "Keep inputs on the GPU and unchanged in place, and shapes fixed, or compile without CUDA graphs."
        if note.is_without_cuda:
            text, remedy = "this machine has no CUDA device", "None needed."
        if not self._is_new("skip", text):
            return None
        return Finding(
            kind="compile_fallback",
            severity="info" if note.is_without_cuda else "warning",
            message=f"A compiled graph runs without a CUDA graph: {text}",
            remedy=remedy,
            site=note.site,
            attributes=_attributes(note) | {"category": OTHER, "reason": text},
        )

    def _is_new(self, *key: str) -> bool:
        if key in self._told or len(self._told) >= _MAX_TOLD:
            return False
        self._told.add(key)
        return True


def _recompilation(note: CompileNote, counters: Counters) -> Finding:
    reason = _reason(note)
    counters.add("loopscope.recompilations", (note.frame or OTHER, reason.category))
    severity: _Severity = "info" if reason.is_mode else "warning"
    return Finding(
        kind="recompilation",
        severity=severity,
        message=f"torch.compile compiled {note.frame} again, variant {note.variants}: {reason.text}",
        remedy=reason.remedy,
        site=note.site,
        attributes=_attributes(note) | _why(reason),
    )


def _limit(note: CompileNote, counters: Counters) -> Finding:
    frame, reason = note.frame or OTHER, _reason(note)
    counters.add("loopscope.compile_fallbacks", (frame,))
    return Finding(
        kind="compile_fallback",
        severity="warning",
        message=f"{frame} was compiled too often, and runs eager for every new variant from now on; "
        f"the last reason: {reason.text}",
        remedy=f"{reason.remedy} Only if all variants are needed raise torch._dynamo.config.recompile_limit.",
        site=note.site,
        attributes=_attributes(note) | _why(reason) | {"category": "limit", "last_category": reason.category},
    )


def _reason(note: CompileNote) -> Reason:
    reason = explain_recompilation(note.reasons)
    if reason.is_mode:
        return reason._replace(category="train_eval", text=_SWITCHED) if note.is_training_switched else reason
    return with_type(reason, note.type_now)


def _why(reason: Reason) -> dict[str, object]:
    return {"category": reason.category, "reason": reason.text, "guard": guard_line(reason.guard)}


def _attributes(note: CompileNote) -> dict[str, object]:
    known = {
        "frame": note.frame,
        "compile_id": note.compile_id,
        "variants": note.variants,
        "called_from": note.called_from,
        "location": note.location or None,
    }
    return {name: value for name, value in known.items() if value is not None}
