"""The lower blocks of the picture: what is wrong, the layers, the events, the lines of the user's code."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.text import Text

from ..report.humanise import count
from .epochs import EpochRow
from .glyphs import Glyphs
from .head import STYLES, shortened, wrapped
from .health import Case
from .layers import LayerRow
from .lines import EventRow, LineRow
from .room import Scroll, Wish, allot
from .tables import GAP, Column, Sheet, clearest, fit, row

__all__ = ["Block", "activity_block", "case_block", "epoch_block", "event_block", "layer_block"]

_NUMBER = 9
"""Characters of the longest number."""
_MIN_CURVE = 10
_MIN_MESSAGE = 20
_MIN_PLACE = 12
_MAX_BODY = 4
"""Lines of a message, and of a remedy."""
_MAX_EVENTS = 60
_MAX_NAME = 48
_MAX_KIND = 24
_SEVERITY = 8
_WIDE = 76
_HEADER = "bold"
_EPOCH_TITLES = {"steps": "steps", "loss": "loss", "norm": "gradient norm", "nonfinite": "not finite", "took": "time"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A part of the picture that can be longer or shorter."""

    wish: Wish
    lines: Callable[[int], list[Text]]
    """At most so many lines."""


def case_block(found: Sequence[Case], sheet: Sheet) -> Block:
    """Return what is wrong: each anomaly with what it means and the remedy, so far as there is room."""
    width, glyphs = sheet.width, sheet.glyphs
    bodies = [_body(case, width - GAP, sheet) for case in found]
    most = [1 + len(message) + len(remedy) for message, remedy in bodies]

    def lines(room: int) -> list[Text]:
        sizes = _case_sizes(most, room)
        if 0 in sizes:
            sizes = _case_sizes(most, room - 1)
        drawn: list[Text] = []
        for case, body, size in zip(found, bodies, sizes, strict=True):
            if size:
                drawn.append(_case_title(case, width, glyphs))
                shown = _shortened(body, size - 1, width - GAP, glyphs)
                drawn += [Text.assemble(" " * GAP, line, no_wrap=True) for line in shown]
        left = sizes.count(0)
        return [*drawn, Text(f"{count(left)} further", "dim")] if left else drawn

    return Block(wish=Wish(least=min(4, sum(most)), most=sum(most), weight=3), lines=lines)


def layer_block(rows: Sequence[LayerRow], scroll: Scroll, sheet: Sheet, *, least: int) -> Block:
    """Return the table of layers, from where it is scrolled to."""
    width, glyphs = sheet.width, sheet.glyphs
    names: Sequence[str] = [glyphs.text(each.name) for each in rows]
    longest = max((cell_len(name) for name in names), default=0)
    columns = _layer_columns(rows, longest, width)
    names = clearest(names, columns[0].width, glyphs)

    def lines(room: int) -> list[Text]:
        first, last = scroll.window(room - 1, len(rows))
        title = "layer" if last - first == len(rows) else f"{first + 1}-{last} of {len(rows)} layers"
        words = (title, "state", "decided by", "norm", "history", "update", "zeros")
        drawn = [row([(word, _HEADER) for word in words], columns, glyphs)]
        for name, each in zip(names[first:last], rows[first:last], strict=True):
            drawn.append(_layer(name, each, columns, glyphs))
        return drawn

    return Block(wish=Wish(least=least, most=len(rows) + 1 if rows else 0, weight=3), lines=lines)


def event_block(rows: Sequence[EventRow], sheet: Sheet) -> Block:
    """Return the latest events with the layer or the line that they are about."""
    rows, glyphs = rows[:_MAX_EVENTS], sheet.glyphs
    columns = _event_columns(rows, sheet)

    def lines(room: int) -> list[Text]:
        words = ("step", "severity", "event", "where", "what it means")
        drawn = [row([(word, _HEADER) for word in words], columns, glyphs)]
        for each in rows[: room - 1]:
            texts = (each.step, each.severity, each.kind, each.where, each.message)
            styles = ("", STYLES.get(each.severity, ""), "", "", "dim")
            cells = [(glyphs.text(text), style) for text, style in zip(texts, styles, strict=True)]
            drawn.append(row(cells, columns, glyphs))
        return drawn

    return Block(wish=Wish(least=3, most=len(rows) + 1 if rows else 0, weight=2), lines=lines)


def epoch_block(rows: Sequence[EpochRow], sheet: Sheet) -> Block:
    """Return the latest epochs; where there is too little room columns are left out."""
    titles = {"name": rows[0].unit if rows else "", **_EPOCH_TITLES}
    texts = {each: [sheet.glyphs.text(getattr(row, each)) for row in rows] for each in titles}
    widths, room = dict.fromkeys(titles, 0), sheet.width
    for each in ("name", "loss", "norm", "took", "nonfinite", "steps"):
        size = max(len(text) for text in (titles[each], *texts[each]))
        if size <= room:
            widths[each] = size
            room -= size + GAP
    columns = [Column(width=width, is_number=True) for width in widths.values()]

    def lines(room: int) -> list[Text]:
        cells = [[(title, _HEADER) for title in titles.values()]]
        cells += [[(text, "") for text in each] for each in list(zip(*texts.values(), strict=True))[: room - 1]]
        return [row(each, columns, sheet.glyphs) for each in cells]

    return Block(wish=Wish(least=3, most=len(rows) + 1 if rows else 0, weight=1), lines=lines)


def activity_block(rows: Callable[[int], Sequence[LineRow]], num: int, sheet: Sheet) -> Block:
    """Return waits by line, recompilations and graph breaks by frame: `num` there are, `rows` has the foremost."""
    what, why, times, blocked = 11, 16 if sheet.width >= _WIDE else 0, 10, 9
    place = sheet.width - sum(size + GAP for size in (what, why, times, blocked) if size)
    columns = [
        Column(width=what),
        Column(width=max(place, _MIN_PLACE), keep="end"),
        Column(width=why),
        Column(width=times, is_number=True),
        Column(width=blocked, is_number=True),
    ]

    def lines(room: int) -> list[Text]:
        words = ("in the code", "line or frame", "by", "times", "blocked")
        drawn = [row([(word, _HEADER) for word in words], columns, sheet.glyphs)]
        for each in rows(room - 1):
            texts = (each.what, each.where, each.why, each.times, each.blocked)
            drawn.append(row([(sheet.glyphs.text(text), "") for text in texts], columns, sheet.glyphs))
        return drawn

    return Block(wish=Wish(least=2, most=num + 1 if num else 0, weight=1), lines=lines)


def _case_sizes(most: Sequence[int], room: int) -> list[int]:
    """Return the lines of each case: the first has two lines of its body before the others have their titles."""
    wishes = [Wish(least=1 if index else max(min(3, size, room), 1), most=size) for index, size in enumerate(most)]
    return list(allot(room, wishes))


def _case_title(case: Case, width: int, glyphs: Glyphs) -> Text:
    """Return a line that says what, where and when: where there is little room the names are shortened."""
    style = STYLES.get(case.severity, "")
    before = glyphs.text(f"{'' if case.is_open else 'before: '}{case.severity} {case.kind}")
    place = glyphs.text(f" at {case.where}") if case.where else ""
    when = glyphs.text(f", {case.when}")
    cause = glyphs.text(f", first cause of {', '.join(case.followers)}") if case.followers else ""
    room = width - cell_len(before + when)
    for shorter in (f", first cause of {count(len(case.followers))} more" if cause else "", ""):
        least = min(cell_len(place), _MIN_PLACE)
        cause = shorter if least + cell_len(cause) > room else cause
    place = fit(place, max(room - cell_len(cause), 0), glyphs, "middle")
    title = fit(before + place + when + cause, width, glyphs)
    return Text(title, f"bold {style}" if case.is_open else style, no_wrap=True)


def _body(case: Case, width: int, sheet: Sheet) -> tuple[list[Text], list[Text]]:
    """Return message and remedy, wrapped."""
    style = "" if case.is_open else "dim"
    message, remedy = (
        wrapped(Text(sheet.glyphs.text(words), style), width, _MAX_BODY, sheet) if words else []
        for words in (case.message, f"→ {case.remedy}" if case.remedy else "")
    )
    return message, remedy


def _shortened(body: tuple[list[Text], list[Text]], size: int, width: int, glyphs: Glyphs) -> list[Text]:
    """Return so many lines of message and remedy: where they have to be cut, the remedy has its half."""
    message, remedy = body
    num_remedy = min(len(remedy), max(size // 2, size - len(message)))
    return [*shortened(message, size - num_remedy, width, glyphs), *shortened(remedy, num_remedy, width, glyphs)]


def _event_columns(rows: Sequence[EventRow], sheet: Sheet) -> list[Column]:
    """Return the columns of the events' table: what an event means is left out where there is too little room."""
    measure = sheet.glyphs.text
    step = max([len(each.step) for each in rows] + [4])
    kind = min(max([cell_len(measure(each.kind)) for each in rows] + [5]), _MAX_KIND)
    place = min(max([cell_len(measure(each.where)) for each in rows] + [5]), _MAX_NAME)
    rest = sheet.width - step - _SEVERITY - kind - 3 * GAP
    if rest >= 2 * _MIN_MESSAGE:
        place = min(place, rest // 2)
    message = rest - place - GAP
    return [
        Column(width=step, is_number=True),
        Column(width=_SEVERITY),
        Column(width=kind),
        Column(width=place if message >= _MIN_MESSAGE else rest, keep="end"),
        Column(width=message if message >= _MIN_MESSAGE else 0),
    ]


def _layer_columns(rows: Sequence[LayerRow], longest: int, width: int) -> list[Column]:
    """Return the columns of the layers' table: those that say less are left out where there is too little room."""
    name = max(min(longest, _MAX_NAME, width // 3), 19)
    state = max([len(each.state) for each in rows] + [5])
    rule = max([len(each.rule) for each in rows] + [0])
    used = name + state + _NUMBER + 2 * GAP
    optional = {"update": _NUMBER, "zeros": _NUMBER - 1, "rule": max(rule, 10) if rule else 0}
    for column, size in optional.items():
        if used + size + _MIN_CURVE + 2 * GAP <= width and size:
            used += size + GAP
        else:
            optional[column] = 0
    curve = width - used - GAP
    return [
        Column(width=name, keep="middle"),
        Column(width=state),
        Column(width=optional["rule"]),
        Column(width=_NUMBER, is_number=True),
        Column(width=curve if curve >= _MIN_CURVE // 2 else 0),
        Column(width=optional["update"], is_number=True),
        Column(width=optional["zeros"], is_number=True),
    ]


def _layer(name: str, each: LayerRow, columns: Sequence[Column], glyphs: Glyphs) -> Text:
    style = "green" if each.state == "healthy" else "dim" if each.is_healthy else "yellow"
    style = "bold red" if each.is_critical else style
    norm = "bold red" if each.norm == "NaN" else ""
    curve = glyphs.sparkline(each.points, columns[4].width)
    texts = (name, each.state, each.rule, each.norm, curve, each.update_ratio, each.zero_ratio)
    styles = ("", style, style, norm, "cyan", "", "")
    return row([(glyphs.text(text), kind) for text, kind in zip(texts, styles, strict=True)], columns, glyphs)
