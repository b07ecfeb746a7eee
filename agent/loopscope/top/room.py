"""How the lines of a screen are shared out among its blocks, and which part of a long list is seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Scroll", "Wish", "allot"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What a block asks for, in lines."""

    least: int
    """Below this it is worth nothing."""
    most: int
    weight: int = 1
    """Lines in each turn once all have their least."""


@dataclass(slots=True)
class Scroll:
    """Where a list is scrolled to; what lies beyond its end is forgotten when it is drawn."""

    first: int = 0

    def window(self, size: int, num: int) -> tuple[int, int]:
        """Return the first and the one behind the last of `num` entries that are seen where `size` of them are."""
        self.first = max(min(self.first, num - size), 0)
        return self.first, min(self.first + size, num)


def allot(room: int, wishes: Sequence[Wish]) -> Sequence[int]:
    """Return lines for each block, together `room` at the most; those named first get their least first."""
    lines = [0] * len(wishes)
    for index, wish in enumerate(wishes):
        least = min(wish.least, wish.most)
        if least <= room:
            lines[index] = least
            room -= least
    is_growing = True
    while room > 0 and is_growing:
        is_growing = False
        for index, wish in enumerate(wishes):
            more = min(wish.weight, wish.most - lines[index], room) if lines[index] else 0
            lines[index] += more
            room -= more
            is_growing |= more > 0
    return lines
