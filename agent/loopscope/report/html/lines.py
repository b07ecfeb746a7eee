"""Charts of lines over the steps: every chart is as wide as the page lets it, its texts keep their size.

The picture is an SVG without a view box: places along the width are percentages, those along the height are pixels. The
lines lie in an inner SVG that is stretched, with strokes that are not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby

from ..curves import Curve, Points
from ..humanise import count, number, steps
from ..spans import groups
from .elements import Html, details, join, table, tag
from .scales import Scale, step_ticks, value_scale

__all__ = ["HEIGHT", "Mark", "Place", "axes", "figure", "hit", "inner", "line_chart", "percent"]

HEIGHT = 200
_WIDTH = 1_000
"""Of the inner picture, in its own units."""
_NUM_TREND = 60
_NUM_HITS = 80
_NUM_ROWS = 12


@dataclass(frozen=True, slots=True)
class Mark:
    """A step that is worth a look: an incident's."""

    step: int
    severity: str
    text: str


def line_chart(
    title: str,
    unit: str,
    curves: Sequence[tuple[str, Curve]],
    *,
    marks: Sequence[Mark] = (),
    is_linear: bool = False,
) -> Html:
    """Return curves over the same steps in one chart; the first line is the main one."""
    curves = [(name, curve) for name, curve in curves if curve]
    if not curves:
        return tag("figure", tag("h4", title), tag("p", "Nothing was logged.", class_="muted"), class_="chart")
    first = min(curve.whole.first_step for _, curve in curves)
    last = max(curve.whole.last_step for _, curve in curves)
    finite = [curve.whole for _, curve in curves if curve.whole.num_finite]
    scale = value_scale(_bounds([curve for _, curve in curves]), is_linear=is_linear)
    place = Place(first, last, scale)
    num_bad = sum(curve.whole.num_nonfinite for _, curve in curves)
    parts: list[str] = [axes(place), *(_marks(place, marks))]
    lines = [_line(place, curve, index) for index, (_, curve) in enumerate(curves)]
    parts.append(inner(*(part for line in reversed(lines) for part in line)))  # the main one on top
    parts += [bad for _, curve in curves for bad in _nonfinite(place, curve)]
    parts += _hits(place, curves[0][1].coarse(_NUM_HITS))
    notes = [scale.name if finite else "no finite value", steps(first, last)]
    if num_bad:
        notes.append(f"{count(num_bad)} not finite")
    if curves[0][1].steps_a_span > 1:
        notes.append(f"{curves[0][1].steps_a_span} steps a point: lowest and highest are kept")
    return figure(
        title,
        unit,
        join(parts),
        " · ".join(notes),
        legend=[name for name, _ in curves],
        numbers=_numbers(title, curves[0][1]),
    )


@dataclass(frozen=True, slots=True)
class Place:
    """Where a step and a value lie in a chart."""

    first: int
    last: int
    scale: Scale

    def x(self, step: float) -> float:
        """Share of the width; a single step lies in the middle."""
        return 0.5 if self.first == self.last else (step - self.first) / (self.last - self.first)

    def y(self, value: float) -> float:
        """Pixels from the top; what is beyond the axis lies at its end."""
        return HEIGHT * (1 - min(max(self.scale.at(value), 0.0), 1.0))


def percent(share: float) -> str:
    """Return a share of the width as SVG has it."""
    return f"{100 * share:.2f}".rstrip("0").rstrip(".") + "%"


def figure(
    title: str,
    unit: str,
    picture: Html,
    note: str,
    *,
    legend: Sequence[str] = (),
    numbers: Html | None = None,
    class_: str = "lines",
) -> Html:
    """Return a chart with its title, legend and numbers; the picture has a name for those who do not see it."""
    names = [tag("li", tag("span", class_=f"key s{index}"), name) for index, name in enumerate(legend)]
    return tag(
        "figure",
        tag("figcaption", tag("h4", title, tag("small", f" {unit}")), tag("p", note, class_="muted")),
        tag("ul", *names, class_="legend") if len(names) > 1 else "",
        tag("svg", picture, class_="plot", role="img", aria_label=f"{title}, {unit}. {note}", height=f"{HEIGHT + 26}"),
        numbers or "",
        class_=f"chart {class_}",
    )


def inner(*parts: str) -> Html:
    """Return the stretched part of a picture."""
    return tag(
        "svg",
        *parts,
        width="100%",
        height=f"{HEIGHT}",
        view_box=f"0 0 {_WIDTH} {HEIGHT}",
        preserveAspectRatio="none",
        class_="inner",
    )


def axes(place: Place, value_text: Callable[[float], str] = number) -> Html:
    """Return grid lines with their labels."""
    parts = []
    for value in place.scale.ticks():
        y = place.y(value)
        parts.append(tag("line", x1="0", x2="100%", y1=y, y2=y, class_="grid"))
        parts.append(tag("text", value_text(value), x="-8", y=y + 4, class_="tick end"))
    for step in step_ticks(place.first, place.last):
        x = place.x(step)
        anchor = "start" if x < 0.03 else "end" if x > 0.97 else "middle"
        parts.append(tag("text", number(step), x=percent(x), y=HEIGHT + 20, class_=f"tick {anchor}"))
    parts.append(tag("line", x1="0", x2="100%", y1=HEIGHT, y2=HEIGHT, class_="axis"))
    return join(parts)


def hit(left: float, right: float, text: str) -> Html:
    """Return a strip that the pointer meets, between two shares of the width; its text is shown then."""
    width = percent(max(right - left, 0.002))
    return tag("rect", tag("title", text), x=percent(left), y="0", width=width, height=f"{HEIGHT}", class_="hit")


def _hits(place: Place, spans: Sequence[Points]) -> list[Html]:
    parts = []
    for index, span in enumerate(spans):
        left = place.x(span.first_step) if len(spans) > 1 else 0.0
        right = place.x(spans[index + 1].first_step) if index + 1 < len(spans) else 1.0
        parts.append(hit(left, right, f"{steps(span.first_step, span.last_step)}: {_words(span)}"))
    return parts


def _words(span: Points) -> str:
    if not span.num_finite:
        return "not finite"
    value = number(span.mean) if span.low == span.high else f"{number(span.low)} to {number(span.high)}"
    return value + (f", {count(span.num_nonfinite)} not finite" if span.num_nonfinite else "")


def _bounds(curves: Sequence[Curve]) -> list[float]:
    return [value for curve in curves for span in curve.spans() if span.num_finite for value in (span.low, span.high)]


def _line(place: Place, curve: Curve, index: int) -> list[Html]:
    """Every value as a pale line and, where there are many, their mean in coarser spans as a strong one."""
    spans = curve.spans()
    is_long = len(spans) > 2 * _NUM_TREND
    every = _path(place, [_points(span) for span in spans])
    parts = [tag("path", d=every, class_=f"line s{index}" + (" pale" if is_long else ""))]
    if is_long:
        trend = [[(s.first_step + s.last_step) / 2, s.mean] for s in curve.coarse(_NUM_TREND)]
        parts.append(tag("path", d=_path(place, [[(x, y)] for x, y in trend]), class_=f"line s{index}"))
    return parts


def _points(span: Points) -> list[tuple[float, float]]:
    if not span.num_finite:
        return [(span.first_step, math.nan)]
    extremes = {(float(span.low_step), span.low), (float(span.high_step), span.high)}
    gap = [(float(span.last_step), math.nan)] if span.num_nonfinite else []
    return sorted(extremes) + gap


def _path(place: Place, spans: Sequence[Sequence[tuple[float, float]]]) -> str:
    """Return the data of a path that is interrupted where a value is not finite; a point alone is a dot."""
    parts, is_open = [], False
    for step, value in (point for span in spans for point in span):
        if not math.isfinite(value):
            is_open = False
            continue
        x, y = f"{_WIDTH * place.x(step):.1f}", f"{place.y(value):.1f}"
        parts.append(f"L{x} {y}" if is_open else f"M{x} {y}h0")
        is_open = True
    return "".join(parts)


def _nonfinite(place: Place, curve: Curve) -> list[Html]:
    """A bar at the top for every stretch of spans with values that are not finite."""
    parts, spans = [], curve.spans()
    bad = [index for index, span in enumerate(spans) if span.num_nonfinite]
    for _, stretch in groupby(enumerate(bad), key=lambda pair: pair[1] - pair[0]):
        indices = [index for _, index in stretch]
        whole = groups([spans[index] for index in indices], 1, Points)[0]
        left = place.x(whole.first_step)
        right = place.x(spans[indices[-1] + 1].first_step) if indices[-1] + 1 < len(spans) else 1.0
        title = f"{steps(whole.first_step, whole.last_step)}: {count(whole.num_nonfinite)} not finite"
        width = percent(max(right - left, 0.006))
        parts.append(tag("rect", tag("title", title), x=percent(left), y="-2", width=width, height="10", class_="bad"))
    return parts


def _marks(place: Place, marks: Sequence[Mark]) -> list[Html]:
    return [
        tag(
            "line",
            tag("title", mark.text),
            x1=percent(place.x(mark.step)),
            x2=percent(place.x(mark.step)),
            y1="0",
            y2=f"{HEIGHT}",
            class_=f"mark {mark.severity}",
        )
        for mark in marks
        if place.first <= mark.step <= place.last
    ]


def _numbers(title: str, curve: Curve) -> Html:
    rows = [
        [
            steps(span.first_step, span.last_step),
            number(span.mean if span.num_finite else None),
            number(span.low if span.num_finite else None),
            number(span.high if span.num_finite else None),
            count(span.num_nonfinite),
        ]
        for span in curve.coarse(_NUM_ROWS)
    ]
    header = ["", "mean", "lowest", "highest", "not finite"]
    return details("Numbers", table(header, rows, caption=f"{title} over the steps"))
