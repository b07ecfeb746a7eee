"""The series of what the user's code makes the machine do: counters by line and frame."""

from __future__ import annotations

from loopscope.catalog import ACTIVITY_METRICS
from loopscope.records import ActivityReport

from .points import Labels, Point, Points, clean

__all__ = ["ActivitySeries"]

_LABELS = {entry.name: entry.labels for entry in ACTIVITY_METRICS}
_ZEROS: dict[str, dict[tuple[str, ...], float]] = {
    entry.name: {(): 0}
    if not entry.labels
    else {(value,): 0 for value in entry.values}
    if len(entry.labels) == 1 and entry.values
    else {}
    for entry in ACTIVITY_METRICS
}


class ActivitySeries:
    """The latest counters of one agent; not thread-safe, its owner holds the lock.

    Counters without labels, and those with closed lists of them, are there with 0 from the start. A line or a frame
    that is new shows 0 the first time that it is collected, so that a rate sees its first increase.
    """

    def __init__(self) -> None:
        self._report: ActivityReport | None = None
        self._shown: set[tuple[str, tuple[str, ...]]] = set()

    @property
    def num_left_out(self) -> int:
        """Combinations of labels that are counted under `other`."""
        return 0 if self._report is None else self._report.num_left_out

    def add(self, report: ActivityReport) -> None:
        """Take the latest counters."""
        self._report = report

    def collect(self, labels: Labels, points: Points) -> None:
        """Add the points of this moment, under the constant `labels`."""
        counters = {} if self._report is None else self._report.counters
        for name, zeros in _ZEROS.items():
            for values, amount in {**zeros, **counters.get(name, {})}.items():
                key = (name, values)
                is_new = key not in self._shown and values not in zeros
                self._shown.add(key)
                own = {label: clean(value) for label, value in zip(_LABELS[name], values, strict=True)}
                points[name].append(Point({**labels, **own}, 0 if is_new else amount))
