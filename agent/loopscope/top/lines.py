"""What happens at lines of the user's code: waits for the device, recompilations, graph breaks, and the events."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..report.humanise import UNKNOWN, count, seconds
from ..report.incidents import where
from .reading import entries, finite, mapping, text
from .state import State

__all__ = ["EventRow", "LineRow", "event_rows", "line_rows"]

_COUNTERS = (
    ("waits", "loopscope.device.syncs", "site", "kind"),
    ("recompiled", "loopscope.recompilations", "frame", "reason"),
    ("graph break", "loopscope.graph_breaks", "site", "reason"),
    ("runs eager", "loopscope.compile_fallbacks", "frame", ""),
    ("in place", "loopscope.inplace_conflicts", "site", "op"),
)
"""What is said of a counter, its name in the catalog, and the labels that say where and why."""
_SYNC_SECONDS = "loopscope.device.sync"


@dataclass(frozen=True, slots=True, kw_only=True)
class LineRow:
    """A counter of one line or frame."""

    what: str
    where: str
    why: str
    times: str
    blocked: str
    """Time that it cost; empty where it is none that waits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EventRow:
    """An event in a line."""

    step: str
    severity: str
    kind: str
    where: str
    message: str


def event_rows(state: State) -> Sequence[EventRow]:
    """Return the events that are kept, the latest first."""
    return [
        EventRow(
            step=f"{event['step']:,}",
            severity=event["severity"],
            kind=event["kind"],
            where=where(event) or UNKNOWN,
            message=event["message"],
        )
        for event in reversed(state.events)
    ]


def line_rows(state: State, size: int) -> Sequence[LineRow]:
    """Return so many rows at the most: of every counter the most frequent lines, in turns."""
    rows = entries(state.activity.get("counters"))
    is_simulated = mapping(state.run.get("settings")).get("sync_device") == "cpu"
    columns = []
    for what, counter, place, why in _COUNTERS:
        mine = [row for row in rows if row.get("name") == counter and finite(row.get("value")) > 0]
        mine.sort(key=lambda row: -finite(row["value"]))
        said = "would wait" if what == "waits" and is_simulated else what
        columns.append([_line(row, said, place, why, rows if what == "waits" else ()) for row in mine])
    turns = [(turn, index) for index, column in enumerate(columns) for turn in range(len(column))]
    chosen = sorted(turns)[: max(size, 0)]
    return [columns[index][turn] for turn, index in sorted(chosen, key=lambda each: (each[1], each[0]))]


def _line(row: Mapping[str, Any], what: str, place: str, why: str, rows: Sequence[Mapping[str, Any]]) -> LineRow:
    labels = mapping(row.get("labels"))
    took = [
        finite(each.get("value")) for each in rows if each.get("name") == _SYNC_SECONDS and each.get("labels") == labels
    ]
    return LineRow(
        what=what,
        where=text(labels.get(place)),
        why=text(labels.get(why)).replace("_", " "),
        times=f"{count(finite(row.get('value')))} x",
        blocked=seconds(took[0]) if took and took[0] else "",
    )
