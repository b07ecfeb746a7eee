"""The upper lines of the picture: what the run is, how it is, its curves, and where its time goes."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

from ..report.humanise import seconds
from . import figures
from .glyphs import NOT_FINITE, Glyphs
from .health import Link, Verdict, step_age_seconds
from .state import State
from .tables import GAP, Column, Sheet, joined, row, spread

__all__ = ["STYLES", "figure_lines", "head_lines", "shortened", "wrapped"]

STYLES = {"good": "green", "unknown": "magenta", "warning": "yellow", "critical": "red", "info": "cyan"}
"""By grade and by severity. A word says the same: there may be no colours."""
_FRESH_SECONDS = 5.0
_ASIDE_WIDTH = 70
"""From this width on curves have something said beside them."""
_MIN_BAR = 8
_PHASE_STYLES = ("yellow", "cyan", "blue", "magenta", "white")
_NAMES = {"data_wait": "data", "forward": "fwd", "backward": "bwd", "optimizer": "opt"}


def head_lines(state: State, link: Link, judged: Verdict, sheet: Sheet) -> list[Text]:
    """Return what the run is called, how it is, how far it is."""
    style, width, glyphs = STYLES[judged.grade], sheet.width, sheet.glyphs
    name = Text(joined(figures.name(state), width, glyphs), "bold", no_wrap=True)
    word = Text(f" {judged.word} ", f"bold reverse {style}")
    said = Text.assemble(word, " ", (glyphs.text(judged.words), style))
    lines = [spread(name, Text(glyphs.text(figures.origin(state)), "dim"), width)]
    lines += wrapped(said, width, 2, sheet)
    if progress := figures.progress(state):
        left = Text(joined(progress, width, glyphs), no_wrap=True)
        lines.append(spread(left, Text(_age(state, link), "dim"), width))
    return lines


def figure_lines(state: State, sheet: Sheet, *, is_tight: bool) -> list[Text]:
    """Return the curves, the phases (unless space is dear), and what loopscope says of itself."""
    width, glyphs = sheet.width, sheet.glyphs
    lines = _curves(figures.curves(state), width, glyphs)
    if not is_tight:
        lines += _phases(figures.phases(state), width, glyphs)
    if ours := figures.ourselves(state):
        lines.append(Text(joined(ours, width, glyphs), "dim", no_wrap=True))
    return lines


def wrapped(words: Text, width: int, size: int, sheet: Sheet) -> list[Text]:
    """Return the words on at most `size` lines, with a mark where something is left out."""
    lines = list(words.wrap(sheet.console, width))
    for line in lines:
        line.rstrip()
    return shortened(lines, size, width, sheet.glyphs)


def shortened(lines: list[Text], size: int, width: int, glyphs: Glyphs) -> list[Text]:
    """Return the first so many lines, the last of them filled up with what follows."""
    if len(lines) <= max(size, 0):
        return lines
    if size <= 0:
        return []
    last = Text(" ").join(lines[size - 1 :])
    if last.cell_len > width:
        last.truncate(width - 1)
        last.append(glyphs.text("…"))
    return [*lines[: size - 1], last]


def _age(state: State, link: Link) -> str:
    age = step_age_seconds(state, link)
    return f"latest step {seconds(round(age))} ago" if age is not None and age >= _FRESH_SECONDS else ""


def _curves(found: Sequence[figures.Figure], width: int, glyphs: Glyphs) -> list[Text]:
    texts = [[glyphs.text(each) for each in (figure.name, figure.value, figure.aside)] for figure in found]
    names, values, asides = (max(len(text) for text in column) for column in zip(*texts, strict=True))
    aside = asides + GAP if asides and width >= _ASIDE_WIDTH else 0
    columns = [Column(width=names), Column(width=values, is_number=True)]
    room = width - names - values - 2 * GAP - aside
    lines = []
    for figure, (name, value, said) in zip(found, texts, strict=True):
        line = row([(name, ""), (value, "bold red" if figure.is_bad else "bold")], columns, glyphs)
        line.append(" " * GAP)
        curve = Text(glyphs.sparkline(figure.points, room, is_from_zero=figure.is_from_zero).ljust(room), "cyan")
        curve.highlight_regex(f"{NOT_FINITE}+", "bold red")
        line.append_text(curve)
        if aside:
            line.append(" " * GAP + said, "dim")
        line.rstrip()
        lines.append(line)
    return lines


def _phases(found: Sequence[tuple[str, float]], width: int, glyphs: Glyphs) -> list[Text]:
    """Return the phases as a bar with its legend, whose smallest parts give way where there is too little room."""
    shades = [
        (share, f"{_NAMES.get(phase, phase)} {_percent(share)}", shade, style)
        for (phase, share), shade, style in zip(found, glyphs.shades, _PHASE_STYLES, strict=False)
    ]
    shown = sorted(shades, key=lambda each: -each[0])
    while shown and sum(len(words) + 2 + GAP for _, words, _, _ in shown) > width - _MIN_BAR:
        shown.pop()
    if not shown:
        return []
    legend = Text(no_wrap=True)
    for each in shades:
        if each in shown:
            _, words, shade, style = each
            legend.append(" " * GAP + shade, style)
            legend.append(f" {words}", "dim")
    bar = Text(no_wrap=True)
    room = width - legend.cell_len
    for text, (_, _, _, style) in zip(glyphs.stack([share for share, *_ in shades], room), shades, strict=True):
        bar.append(text, style)
    return [Text.assemble(bar, legend, no_wrap=True)]


def _percent(share: float) -> str:
    return f"{round(100 * share)} %"
