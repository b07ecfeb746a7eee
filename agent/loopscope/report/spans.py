"""A bounded number of spans of steps: as many as there are steps at first, then twice as wide again and again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, Protocol, Self, TypeVar

__all__ = ["Spans", "groups"]


class _Mergeable(Protocol):
    def merge(self, other: Self) -> None: ...


Cell = TypeVar("Cell", bound=_Mergeable)


class Spans(Generic[Cell]):
    """Cells that each take in what falls into one span of positions (steps, epochs), `max_spans` at the most.

    A further one doubles the width of all: neighbours merge. So a log of any length takes bounded memory and is read
    once, and a cell forgets nothing that it can merge, such as extremes and counts.
    """

    def __init__(self, make: Callable[[], Cell], max_spans: int) -> None:
        assert max_spans >= 2, "two neighbours at least"
        self.width = 1
        self._make = make
        self._max_spans = max_spans
        self._origin: int | None = None
        self._cells: dict[int, Cell] = {}

    def __len__(self) -> int:
        return len(self._cells)

    def at(self, position: int) -> Cell:
        """Return the cell of a position."""
        if self._origin is None:
            self._origin = position
        index = (position - self._origin) // self.width
        if index not in self._cells:
            self._cells[index] = self._make()
            while len(self._cells) > self._max_spans:
                self._double()
                index //= 2
        return self._cells[index]

    def cells(self) -> list[Cell]:
        """Return the cells in the order of their positions."""
        return [self._cells[index] for index in sorted(self._cells)]

    def _double(self) -> None:
        self.width *= 2
        cells, self._cells = self._cells, {}
        for index in sorted(cells):
            if index // 2 in self._cells:
                self._cells[index // 2].merge(cells[index])
            else:
                self._cells[index // 2] = cells[index]


def groups(cells: list[Cell], num_groups: int, make: Callable[[], Cell]) -> list[Cell]:
    """Merge neighbours, without changing them, into `num_groups` cells at the most."""
    merged = []
    num_groups = min(num_groups, len(cells))
    for group in range(num_groups):
        cell = make()
        for other in cells[group * len(cells) // num_groups : (group + 1) * len(cells) // num_groups]:
            cell.merge(other)
        merged.append(cell)
    return merged
