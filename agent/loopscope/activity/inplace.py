"""What a write in place comes to: one counter, and an event for each pair of lines and incident."""

from __future__ import annotations

from ..catalog import OTHER
from ..notes import InplaceNote
from .counters import Counters
from .findings import Finding

__all__ = ["InplaceJournal"]

_MAX_TOLD = 1_000


class InplaceJournal:
    """Counts and tells; the probe has made sure that a pair of lines is noted once an incident."""

    def __init__(self) -> None:
        self._num_told = 0

    def take(self, note: InplaceNote, counters: Counters) -> tuple[Finding, ...]:
        """Count a note in; return its event, as long as there are not too many."""
        counters.add("loopscope.inplace_conflicts", (note.site or OTHER, note.operator, note.severity))
        if self._num_told >= _MAX_TOLD:
            return ()
        self._num_told += 1
        attributes = {
            "evidence": note.cause,
            "operator": note.operator,
            "culprit_text": note.culprit_text,
            "saved_site": note.saved_site,
            "saved_operator": note.saved_operator,
            "saved_text": note.saved_text,
            "library": note.library,
            "region": note.region,
        }
        return (
            Finding(
                kind=note.kind,
                severity=note.severity,
                message=f"{note.message}.",
                remedy=f"{note.remedy[:1].upper()}{note.remedy[1:]}.",
                site=note.site,
                attributes={name: value for name, value in attributes.items() if value},
            ),
        )
