"""Where the time of a step goes, over the steps: phases one on top of the other."""

from __future__ import annotations

from collections.abc import Sequence

from ...catalog import PHASES
from ..humanise import UNKNOWN, count, seconds, share, steps
from ..spans import groups
from ..timing import PhaseTimes, Timing
from .elements import Html, details, join, table, tag
from .lines import Place, axes, figure, hit, inner, percent
from .scales import Linear

__all__ = ["phase_chart", "slowest_steps"]

_WIDTH = 1_000
_NUM_SPANS = 120
_MAX_SAID = 4


def phase_chart(timing: Timing) -> Html:
    """Return the mean time of a step in each phase, and the shares of the whole run."""
    spans = groups(timing.spans.cells(), _NUM_SPANS, PhaseTimes)
    whole = timing.whole
    names = [*(name for name in PHASES if name in whole.phases), *(n for n in whole.phases if n not in PHASES)]
    tops = [_stack(span, names)[-1] for span in spans]
    place = Place(spans[0].first_step, spans[-1].last_step, Linear(0.0, _top(tops)))
    bands = inner(*(_band(place, spans, names, index) for index in range(len(names))))
    picture = join([bands, axes(place, seconds), *_beyond(place, spans, tops), *_hits(place, spans, names)])
    width = -(-timing.whole.num_steps // len(spans))
    clipped = sum(top > place.scale.high for top in tops)
    notes = [
        f"clock: {timing.clock or 'host'}",
        f"mean of about {count(width)} steps" if width > 1 else "every step",
        *([f"{count(clipped)} longer than the axis"] if clipped else []),
    ]
    legend = [
        f"{_plain(name)} {share(whole.phases[name] / whole.seconds if whole.seconds else None)}" for name in names
    ]
    numbers = _numbers(timing, names)
    return figure(
        "Time of a step", "by phase", picture, " · ".join(notes), legend=legend, numbers=numbers, class_="bands"
    )


def slowest_steps(timing: Timing) -> Html:
    """Return the slowest steps, and what took the time."""
    rows = []
    for step in timing.slowest:
        longest = max(step.phases, key=step.phases.__getitem__, default=None)
        what = UNKNOWN if longest is None else f"{_plain(longest)} {seconds(step.phases[longest])}"
        rows.append([f"{step.step:,}", what, seconds(step.seconds)])
    return table(["step", "longest phase", "time"], rows, caption="The slowest steps", num_texts=2)


def _top(tops: Sequence[float]) -> float:
    """First steps that compile or warm up are not to flatten all others: the axis ends at four times the usual."""
    ranked = sorted(tops)
    usual = ranked[int(0.9 * (len(ranked) - 1))]
    return min(4 * usual, 1.05 * ranked[-1]) or 1.0


def _beyond(place: Place, spans: Sequence[PhaseTimes], tops: Sequence[float]) -> list[Html]:
    """How long those took that are longer than the axis, where there is room to say so."""
    found = [(span, top) for span, top in zip(spans, tops, strict=True) if top > place.scale.high]
    if len(found) > _MAX_SAID:
        return []
    parts = []
    for index, (span, top) in enumerate(found):
        x = place.x((span.first_step + span.last_step + 1) / 2)
        anchor, shift = ("start", "6") if x < 0.5 else ("end", "-6")
        text = f"{seconds(top)} at {steps(span.first_step, span.last_step)}"
        parts.append(tag("text", text, x=percent(x), dx=shift, y=f"{12 + 15 * index}", class_=f"said {anchor}"))
    return parts


def _stack(span: PhaseTimes, names: Sequence[str]) -> list[float]:
    """Return the upper edge of each band: mean seconds a step."""
    edges, edge = [], 0.0
    for name in names:
        edge += span.phases[name] / span.num_steps
        edges.append(edge)
    return edges or [span.seconds / span.num_steps]


def _band(place: Place, spans: Sequence[PhaseTimes], names: Sequence[str], index: int) -> Html:
    upper, lower = [], []
    for number, span in enumerate(spans):
        edges = _stack(span, names)
        y, base = place.y(edges[index]), place.y(edges[index - 1] if index else 0.0)
        left = place.x(span.first_step) if len(spans) > 1 else 0.0
        right = place.x(spans[number + 1].first_step) if number + 1 < len(spans) else 1.0
        for x in (left, right):
            upper.append(f"{_WIDTH * x:.1f} {y:.1f}")
            lower.append(f"{_WIDTH * x:.1f} {base:.1f}")
    return tag("path", d=f"M{'L'.join(upper)}L{'L'.join(reversed(lower))}Z", class_=f"band s{index}")


def _hits(place: Place, spans: Sequence[PhaseTimes], names: Sequence[str]) -> list[Html]:
    parts = []
    for index, span in enumerate(spans):
        left = place.x(span.first_step) if len(spans) > 1 else 0.0
        right = place.x(spans[index + 1].first_step) if index + 1 < len(spans) else 1.0
        words = ", ".join(f"{_plain(name)} {seconds(span.phases[name] / span.num_steps)}" for name in names)
        title = f"{steps(span.first_step, span.last_step)}: {seconds(span.seconds / span.num_steps)} ({words})"
        parts.append(hit(left, right, title))
    return parts


def _numbers(timing: Timing, names: Sequence[str]) -> Html:
    whole = timing.whole
    rows = [
        [
            _plain(name),
            seconds(whole.phases[name]),
            seconds(whole.phases[name] / whole.num_steps),
            share(whole.phases[name] / whole.seconds if whole.seconds else None),
        ]
        for name in names
    ]
    return details("Numbers", table(["phase", "in all", "a step", "share"], rows, caption="Time by phase"))


def _plain(name: str) -> str:
    return name.replace("_", " ")
