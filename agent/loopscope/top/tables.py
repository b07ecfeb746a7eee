"""Lines of cells that fit a width: names are shortened where they must be, numbers never."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.text import Text

from .glyphs import Glyphs

__all__ = ["Cell", "Column", "Sheet", "clearest", "fit", "joined", "row", "spread"]

GAP = 2
_Keep: TypeAlias = Literal["start", "middle", "end"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column of a table."""

    width: int
    is_number: bool = False
    """To the right, and never cut."""
    keep: _Keep = "start"
    """What is left of a text that is too long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """What is drawn on."""

    console: Console
    width: int
    glyphs: Glyphs


Cell: TypeAlias = tuple[str, str]
"""A text, which is safe to draw, and its style."""


def row(cells: Sequence[Cell], columns: Sequence[Column], glyphs: Glyphs) -> Text:
    """Return one line; columns without width are left out."""
    line = Text(no_wrap=True)
    for (words, style), column in zip(cells, columns, strict=True):
        if column.width <= 0:
            continue
        if line:
            line.append(" " * GAP)
        if column.is_number:
            line.append(" " * max(column.width - cell_len(words), 0) + words, style)
        else:
            line.append(set_cell_size(fit(words, column.width, glyphs, column.keep), column.width), style)
    line.rstrip()
    return line


def fit(words: str, width: int, glyphs: Glyphs, keep: _Keep = "start") -> str:
    """Return a text in `width` cells at the most, with a mark where something is left out."""
    if cell_len(words) <= width:
        return words
    if width <= 0:
        return ""
    cut = glyphs.text("…")
    before = {"start": width - 1, "middle": width // 2, "end": 0}[keep]
    return _head(words, before) + cut + _tail(words, width - 1 - before)


def joined(parts: Sequence[str], width: int, glyphs: Glyphs) -> str:
    """Return the parts that fit beside each other, the first ones; one that is too long alone is shortened."""
    safe = [glyphs.text(part) for part in parts]
    mark = glyphs.text(" · ")
    while len(safe) > 1 and cell_len(mark.join(safe)) > width:
        safe.pop()
    return fit(mark.join(safe), width, glyphs, "middle")


def clearest(names: Sequence[str], width: int, glyphs: Glyphs) -> Sequence[str]:
    """Return the names, shortened in that way in which most of them can still be told apart."""
    ways: Sequence[_Keep] = ("middle", "end", "start")
    cuts = [[fit(name, width, glyphs, keep) for name in names] for keep in ways]
    cuts.append([fit(_initials(name, width), width, glyphs, "end") for name in names])
    return max(cuts, key=lambda cut: len(set(cut)))


def spread(left: Text, right: Text, width: int) -> Text:
    """Return both on one line, the one on the right only where there is room for it."""
    room = width - left.cell_len - right.cell_len
    if not right or room < GAP:
        return left
    return Text.assemble(left, " " * room, right, no_wrap=True)


def _initials(name: str, width: int) -> str:
    """Return `a.b.3.linear` for `attention.block.3.linear`: as many parts as must be, from the left, in a letter."""
    parts = name.split(".")
    for index, part in enumerate(parts[:-1]):
        if cell_len(".".join(parts)) > width and not part.isdecimal():
            parts[index] = part[:1]
    return ".".join(parts)


def _head(words: str, width: int) -> str:
    while cell_len(words) > width:
        words = words[:-1]
    return words


def _tail(words: str, width: int) -> str:
    while cell_len(words) > width:
        words = words[1:]
    return words
