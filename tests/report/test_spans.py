"""Spans are bounded in number, and merge without losing anything."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from loopscope.report.spans import Spans, groups


@dataclass
class Positions:
    """Which positions a cell has taken in."""

    taken: list[int] = field(default_factory=list)

    def merge(self, other: Positions) -> None:
        """Take in a later cell."""
        self.taken = self.taken + other.taken


def filled(positions: range | list[int], max_spans: int) -> Spans[Positions]:
    """Return spans that have taken in these positions, one after the other."""
    spans = Spans(Positions, max_spans)
    for position in positions:
        spans.at(position).taken.append(position)
    return spans


@pytest.mark.parametrize("number", [1, 7, 8, 9, 100, 1_000])
@pytest.mark.parametrize("first", [0, 5, 123_456])
def test_every_position_is_in_one_span_and_they_are_in_order(number: int, first: int) -> None:
    """However many there are, at most `max_spans` cells hold all of them, each once, in their order."""
    spans = filled(range(first, first + number), 8)

    assert len(spans) <= 8
    assert [position for cell in spans.cells() for position in cell.taken] == list(range(first, first + number))


def test_few_positions_have_a_span_each() -> None:
    """Nothing is thinned that need not be."""
    spans = filled(range(8), 8)

    assert spans.width == 1
    assert [cell.taken for cell in spans.cells()] == [[position] for position in range(8)]


def test_spans_are_equally_wide() -> None:
    """A span covers as many positions as its neighbour: a curve over them is not distorted."""
    spans = filled(range(1_000), 8)

    *whole, _ = [len(cell.taken) for cell in spans.cells()]
    assert set(whole) == {spans.width}


@pytest.mark.parametrize("positions", [[0, 10**12], [5, 3, 4, 5, 2], [10**9, 0, 10**6, *range(40)]])
def test_gaps_and_returns_are_taken_in(positions: list[int]) -> None:
    """Positions may leap, repeat and go back, as those of a resumed run do; their cells are in order."""
    spans = filled(positions, 4)

    taken = [position for cell in spans.cells() for position in cell.taken]
    assert sorted(taken) == sorted(positions)
    assert len(spans) <= 4
    lows = [min(cell.taken) for cell in spans.cells()]
    assert lows == sorted(lows)


@pytest.mark.parametrize(("number", "wanted"), [(10, 3), (3, 10), (1, 1), (0, 5)])
def test_groups_hold_every_cell_and_change_none(number: int, wanted: int) -> None:
    """Grouping makes at most as many cells as wanted, of whole neighbours, and leaves its arguments as they were."""
    cells = [Positions([position]) for position in range(number)]

    merged = groups(cells, wanted, Positions)

    assert len(merged) == min(number, wanted)
    assert [position for cell in merged for position in cell.taken] == list(range(number))
    assert cells == [Positions([position]) for position in range(number)]
