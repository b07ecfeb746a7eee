"""Counters whose labels are lines and frames of the user's code: bounded, with `other` for what is beyond."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from ..catalog import OTHER, Metric, metric

__all__ = ["Counters"]


class Counters:
    """Values by metric and label values, from 0 on, never down.

    The first `bound - len(values)` combinations of a metric with an open label have series of their own; of what
    comes later the open labels become `other`, and the closed one, the last, stays.
    """

    def __init__(self) -> None:
        self._values: defaultdict[str, dict[tuple[str, ...], float]] = defaultdict(dict)
        self._left_out: set[tuple[str, ...]] = set()
        self.num_changes = 0

    @property
    def num_left_out(self) -> int:
        """Combinations of label values that are counted under `other`."""
        return len(self._left_out)

    def add(self, name: str, labels: tuple[str, ...] = (), amount: float = 1) -> None:
        """Add `amount` to the counter of the catalog's metric `name` with these label values, in the catalog's order.

        Raises KeyError for a metric that the catalog does not have, ValueError for a label value outside a closed list.
        """
        entry = metric(name)
        if len(labels) != len(entry.labels) or (entry.values and labels[-1] not in entry.values):
            raise ValueError(f"{name} has the labels {entry.labels}, the last one of {entry.values}; got {labels}")
        values = self._values[name]
        if labels not in values and len(values) >= _num_own(entry):
            self._left_out.add((name, *labels))
            labels = _under_other(entry, labels)
        values[labels] = values.get(labels, 0) + amount
        self.num_changes += 1

    def snapshot(self) -> Mapping[str, Mapping[tuple[str, ...], float]]:
        """Return a copy of all values, by metric and label values."""
        return {name: dict(values) for name, values in self._values.items()}


def _num_own(entry: Metric) -> int:
    """Combinations with series of their own: the bound less what `other` may take."""
    if not entry.labels or (len(entry.labels) == 1 and entry.values):
        return entry.bound
    return entry.bound - max(1, len(entry.values))


def _under_other(entry: Metric, labels: tuple[str, ...]) -> tuple[str, ...]:
    num_open = len(labels) - bool(entry.values)
    return (OTHER,) * num_open + labels[num_open:]
