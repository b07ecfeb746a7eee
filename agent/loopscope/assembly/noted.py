"""What was noted in the course of a step, told in its report."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

from ..notes import AllocatorNote, Note, PauseNote
from ..records import Event, HookCount, HookSilence, NonfiniteOrigin, StepReport, SyncCount

__all__ = ["with_notes"]


def with_notes(report: StepReport, notes: Sequence[Note], noted: Sequence[Event]) -> StepReport:
    """Return the report with the notes of its step and `noted`, the events that came of them."""
    syncs = tuple(note for note in notes if isinstance(note, SyncCount))
    found = (note for note in notes if isinstance(note, NonfiniteOrigin))
    origin = next(found, None) if _is_nonfinite(report) else None  # else it is of a loss that is not this loop's
    hooks = tuple(note for note in notes if isinstance(note, HookCount | HookSilence))
    return dataclasses.replace(
        report, syncs=syncs, hooks=hooks, origin=origin, pauses=_pauses(notes), events=tuple(noted)
    )


def _is_nonfinite(report: StepReport) -> bool:
    is_bad_loss = report.loss is not None and not math.isfinite(report.loss)
    return is_bad_loss or (report.gradients is not None and report.gradients.has_nonfinite)


def _pauses(notes: Sequence[Note]) -> dict[str, float]:
    pauses: dict[str, float] = {}
    for note in notes:
        if isinstance(note, PauseNote):
            pauses["garbage_collection"] = pauses.get("garbage_collection", 0.0) + note.seconds
        elif isinstance(note, AllocatorNote) and note.event != "free":
            name = f"allocator_{note.event}"
            pauses[name] = pauses.get(name, 0.0) + note.count
    return pauses
