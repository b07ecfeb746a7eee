"""Heatmaps: layers by epochs, exponents by steps. Rows have pixels, columns share the width.

Shape legend: R rows, C columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .elements import Html, join, tag
from .lines import percent

__all__ = ["NUM_COLOURS", "Cell", "heatmap", "legend"]

NUM_COLOURS = 16
"""Of the palette `q0` (low) to `q15` (high) in page.css."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell: how high its value is between 0 and 1 (None is empty), what it says, and how it stands out."""

    level: float | None
    text: str
    class_: str = ""
    letter: str = ""


def heatmap(
    name: str,
    rows: Sequence[tuple[str, Sequence[Cell]]],
    columns: Sequence[str],
    *,
    row_height: int = 20,
    lines: Sequence[tuple[float, str]] = (),
) -> Html:
    """Return the cells with the names of the rows beside and of some columns below.

    `lines` are drawn across at so many rows from the top, with a text.
    """
    height = row_height * len(rows)
    width = 1 / max(len(columns), 1)
    cells = [(cell, x, y) for y, (_, row) in enumerate(rows) for x, cell in enumerate(row)]
    cells.sort(key=lambda entry: bool(entry[0].class_))  # what stands out has its outline above the others
    drawn = [_cell(cell, x * width, width, y * row_height, row_height) for cell, x, y in cells]
    across = [
        part
        for y, text in lines
        for part in (
            tag("line", x1="0", x2="100%", y1=y * row_height, y2=y * row_height, class_="across"),
            tag("text", text, x="100%", y=y * row_height - 4, dx="-6", class_="across end"),
        )
    ]
    picture = tag(
        "svg",
        *drawn,
        *across,
        *_column_names(columns, height),
        class_="cells",
        role="img",
        aria_label=name,
        height=f"{height + 24}",
    )
    names = [tag("li", text, title=text) for text, _ in rows]
    return tag("div", tag("ol", *names, class_=f"rows h{row_height}"), picture, class_="heatmap")


def legend(low: str, high: str, *further: tuple[str, str, str]) -> Html:
    """Return the palette between two values, and further keys: class, letter, text."""
    swatches = join(tag("span", class_=f"swatch b{index}") for index in range(NUM_COLOURS))
    keys = [
        tag("li", tag("span", letter, class_=f"cellkey {class_}"), text) for class_, letter, text in further
    ]  # fmt: skip
    return tag("ul", tag("li", low, " ", tag("span", swatches, class_="ramp"), " ", high), *keys, class_="legend")


def _cell(cell: Cell, x: float, width: float, y: int, height: int) -> Html:
    if cell.level is None and not cell.class_:
        return Html("")
    level = "" if cell.level is None else f"q{min(int(max(cell.level, 0.0) * NUM_COLOURS), NUM_COLOURS - 1)}"
    rectangle = tag(
        "rect",
        tag("title", cell.text),
        x=percent(x),
        y=f"{y}",
        width=percent(width),
        height=f"{height}",
        class_=f"{level} {cell.class_}".strip(),
    )
    if not cell.letter:
        return rectangle
    is_dark = cell.level is not None and cell.level > 0.5
    text = tag(
        "text",
        cell.letter,
        x=percent(x + width / 2),
        y=f"{y + height // 2 + 4}",
        class_="letter middle" + (" on-dark" if is_dark else ""),
    )
    return join([rectangle, text])


def _column_names(columns: Sequence[str], height: int, max_names: int = 6) -> list[Html]:
    every = max(-(-len(columns) // max_names), 1)
    return [
        tag("text", name, x=percent((index + 0.5) / len(columns)), y=f"{height + 18}", class_="tick middle")
        for index, name in enumerate(columns)
        if index % every == 0
    ]
