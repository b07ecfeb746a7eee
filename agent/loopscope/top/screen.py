"""The picture of a run at one moment, as lines for a terminal of a given size: what matters most comes first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from rich.text import Text

from .blocks import Block, activity_block, case_block, epoch_block, event_block, layer_block
from .epochs import epoch_rows
from .head import figure_lines, head_lines
from .health import Case, Link, cases, verdict
from .layers import layer_rows
from .lines import event_rows, line_rows
from .room import Scroll, Wish, allot
from .state import State
from .tables import Sheet, fit

__all__ = ["Frame", "draw"]

_FREE_HEIGHT = 80
"""Of a picture that is printed, at the most."""
_TIGHT_HEIGHT = 18
"""Below this, what can be done without is left out."""
_AIRY_HEIGHT = 30
"""From this on blocks stand apart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """What is seen of the picture."""

    sheet: Sheet
    height: int | None
    """None for as many lines as there is something to say."""
    scroll: Scroll = field(default_factory=Scroll)
    """Of the layers."""
    footer: str = ""


def draw(state: State, link: Link, frame: Frame) -> Sequence[Text]:
    """Return the lines, at most as many as the frame is high and none wider than it is."""
    height = frame.height or _FREE_HEIGHT
    sheet = frame.sheet
    found = cases(state)
    lines = head_lines(state, link, verdict(state, link, found), sheet)
    lines += figure_lines(state, sheet, is_tight=height < _TIGHT_HEIGHT)
    has_footer = bool(frame.footer) and height >= _TIGHT_HEIGHT
    lines += _arranged(_blocks(state, found, frame), height - len(lines) - has_footer, has_gaps=height >= _AIRY_HEIGHT)
    if has_footer:
        lines += [Text()] * (height - len(lines) - 1)
        footer = fit(sheet.glyphs.text(frame.footer), sheet.width, sheet.glyphs)
        lines.append(Text(footer, "dim", no_wrap=True))
    for line in lines:
        line.truncate(sheet.width)  # in a terminal that is too narrow for any table
    return lines[:height]


def _arranged(blocks: Sequence[Block], room: int, *, has_gaps: bool) -> list[Text]:
    wishes = [block.wish for block in blocks]
    if has_gaps:
        wishes = [Wish(least=w.least + 1, most=w.most + 1 if w.most else 0, weight=w.weight) for w in wishes]
    lines: list[Text] = []
    for block, size in zip(blocks, allot(room, wishes), strict=True):
        if size:
            lines += [*([Text()] if has_gaps else []), *block.lines(size - has_gaps)]
    return lines


def _blocks(state: State, found: Sequence[Case], frame: Frame) -> Sequence[Block]:
    sheet = frame.sheet
    return (
        case_block(found, sheet),
        layer_block(layer_rows(state), frame.scroll, sheet, least=3 if found else 6),
        event_block(event_rows(state), sheet),
        activity_block(lambda size: line_rows(state, size), len(line_rows(state, _FREE_HEIGHT)), sheet),
        epoch_block(epoch_rows(state), sheet),
    )
