"""Syncs, recompilations and graph breaks by line, from the counters of a log or, without these, from its steps."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from .log import real
from .sessions import Session

__all__ = ["Line", "breaks", "counter_total", "fallbacks", "recompilations", "syncs"]

OTHER = "other"


@dataclass(frozen=True, slots=True)
class Line:
    """A counter of one line or frame, and its label."""

    where: str
    label: str
    count: float
    seconds: float = 0.0


def syncs(session: Session) -> Sequence[Line]:
    """Return what waited for the device by line and kind, the most frequent first.

    Counters are of the whole run; a log that was cut before the first of them has the steps' own.
    """
    seconds: dict[tuple[str, str], float] = defaultdict(float)
    counts: dict[tuple[str, str], float] = defaultdict(float)
    for name, sums in (("loopscope.device.syncs", counts), ("loopscope.device.sync", seconds)):
        for row in session.counters.get(name, []):
            sums[row["labels"]["site"], row["labels"]["kind"]] += real(row["value"]) or 0.0
    if not session.counters:
        for track in session.tracks:
            for key, line in track.syncs.items():
                counts[key] += line.count
                seconds[key] += line.seconds
    lines = [Line(site, kind, count, seconds[site, kind]) for (site, kind), count in counts.items() if count]
    return sorted(lines, key=lambda line: -line.count)


def recompilations(session: Session) -> Sequence[Line]:
    """Return recompilations by frame and reason."""
    return _lines(session, "loopscope.recompilations", "frame", "reason")


def breaks(session: Session) -> Sequence[Line]:
    """Return graph breaks by line and reason."""
    return _lines(session, "loopscope.graph_breaks", "site", "reason")


def fallbacks(session: Session) -> Sequence[Line]:
    """Return the frames that run eager since."""
    return _lines(session, "loopscope.compile_fallbacks", "frame", "")


def counter_total(session: Session, name: str) -> float:
    """Return a counter over all of its series."""
    return sum(real(row["value"]) or 0.0 for row in session.counters.get(name, []))


def _lines(session: Session, name: str, where: str, label: str) -> Sequence[Line]:
    rows = session.counters.get(name, [])
    lines = [
        Line(str(row["labels"].get(where, OTHER)), str(row["labels"].get(label, "")), real(row["value"]) or 0.0)
        for row in rows
    ]
    return sorted((line for line in lines if line.count), key=lambda line: -line.count)
