"""Operators that are not deterministic although the user asked for determinism."""

from __future__ import annotations

from ..catalog import MAX_FRAMES
from ..notes import NondeterminismNote
from .counters import Counters
from .findings import Finding

__all__ = ["DeterminismJournal"]


class DeterminismJournal:
    """Counts the operators that PyTorch warns about; the first call at each line is an event."""

    def __init__(self) -> None:
        self._seen: set[tuple[str, str]] = set()

    def take(self, note: NondeterminismNote, counters: Counters) -> tuple[Finding, ...]:
        """Count a note in; return the event of an operator and line that are new."""
        counters.add("loopscope.nondeterministic_ops", (note.site,))
        key = (note.operator, note.site)
        if key in self._seen or len(self._seen) >= MAX_FRAMES:
            return ()
        self._seen.add(key)
        where = " (the line at which the main thread was: another thread ran it)" if note.is_other_thread else ""
        return (
            Finding(
                kind="nondeterministic_op",
                severity="warning",
                message=f"{note.operator} has no deterministic implementation: two runs of this loop will differ"
                f"{where}.",
                remedy="Use another operator here, or run it on the CPU; see torch.use_deterministic_algorithms.",
                site=note.site,
                attributes={"operator": note.operator},
            ),
        )
