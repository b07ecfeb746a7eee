"""A comparison as text for people and as JSON for tools."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from ..facts import log_notes, session_name
from ..humanise import count, number, seconds
from ..sessions import Summary
from ..text import columns, finish
from .runs import Comparison, Pair, Row, is_pair_equal
from .steps import Gap

__all__ = ["comparison_json", "comparison_text"]

_MAX_ROWS = 20


def comparison_text(comparison: Comparison, *, width: int, is_unicode: bool = True) -> str:
    """Return what differs, the training first; what is equal is not told, figures excepted."""
    parts = [*_head("A", comparison.a), *_head("B", comparison.b), "", _verdict(comparison)]
    for name, ours in (("A", comparison.only_a), ("B", comparison.only_b)):
        parts += [f"Only in {name}: {each}." for each in ours]
    for pair in comparison.pairs:
        parts += _pair(pair, comparison.rtol, len(comparison.pairs) > 1, width)
    for title, rows in (
        ("settings", comparison.settings),
        ("versions", comparison.versions),
        ("waits a step", comparison.syncs),
        ("compilation", comparison.compilations),
    ):
        if rows:
            parts += ["", _rows(title, rows, width)]
    for name, events in (("A", comparison.events_only_a), ("B", comparison.events_only_b)):
        if events:
            parts += ["", f"Happened only in {name}:", *(f"  {event}" for event in events[:_MAX_ROWS])]
            parts += [f"  and {count(len(events) - _MAX_ROWS)} more"] if len(events) > _MAX_ROWS else []
    return finish(parts, is_unicode)


def comparison_json(comparison: Comparison) -> str:
    """Return all of it as one JSON object; numbers that are not finite are texts, as in the log."""
    found = {
        "is_equal": comparison.is_equal,
        "rtol": comparison.rtol,
        "a": _source(comparison.a),
        "b": _source(comparison.b),
        "only_a": comparison.only_a,
        "only_b": comparison.only_b,
        "optimizers": [asdict(pair) | {"is_equal": is_pair_equal(pair, comparison.rtol)} for pair in comparison.pairs],
        **{
            name: [asdict(row) for row in getattr(comparison, name)]
            for name in ("settings", "versions", "syncs", "compilations")
        },
        "events_only_a": comparison.events_only_a,
        "events_only_b": comparison.events_only_b,
    }
    return json.dumps(_plain(found), indent=2, allow_nan=False) + "\n"


def _head(name: str, summary: Summary) -> list[str]:
    sessions = ", ".join(session_name(session) for session in summary.sessions)
    return [f"{name}  {summary.log.path}: {sessions}", *(f"   ! {note}" for note in log_notes(summary))]


def _verdict(comparison: Comparison) -> str:
    within = f" within rtol {number(comparison.rtol)}" if comparison.rtol else ", bit for bit as logged"
    if comparison.is_equal:
        return f"Both trained the same{within}: steps, losses, gradient norms and learning rates."
    first = [gap for pair in comparison.pairs for gap in pair.steps.gaps if gap.level == comparison.rtol]
    if not first:
        return f"Training differs; where both have steps they are the same{within}."
    gap = min(first, key=lambda gap: gap.step)
    return f"Training differs from step {gap.step:,} on: first the {gap.quantity}."


def _pair(pair: Pair, rtol: float, is_one_of_several: bool, width: int) -> list[str]:
    steps = pair.steps
    parts = ["", f"{pair.name}:"] if is_one_of_several else []
    for name, number_only in (("A", steps.num_only_a), ("B", steps.num_only_b)):
        if number_only:
            parts.append(f"{count(number_only)} lines of steps are only in {name}.")
    for name, ours in (("A", steps.parameters_only_a), ("B", steps.parameters_only_b)):
        if ours:
            more = f" and {count(len(ours) - 3)} more" if len(ours) > 3 else ""
            parts.append(f"Parameters only in {name}: {', '.join(ours[:3])}{more}; norms are not compared.")
    if steps.gaps:
        rows = []
        for gap in _distinct(steps.gaps):
            name = "any difference" if not gap.level else f"more than {gap.level:g}"
            others = f" (+{count(gap.num_parameters - 1)})" if gap.num_parameters > 1 else ""
            mark = " (rtol)" if gap.level == rtol and rtol else ""
            values = [_value(gap.a), _value(gap.b), number(gap.difference)]
            rows.append([gap.quantity + others, name + mark, f"{gap.step:,}", *values])
        header = ["first apart in", "by", "step", "A", "B", "difference"]
        parts += ["", columns([header, *rows], num_texts=2, width=width)]
    figures = [[row.name, _value(row.a), _value(row.b), ""] for row in pair.figures if row.a or row.b]
    times = [
        [row.name.replace("_", " "), _seconds(row.a), _seconds(row.b), _times(row.ratio)]
        for row in pair.times
        if row.a or row.b
    ]
    return [*parts, "", columns([["", "A", "B", "B / A"], *figures, *times], width=width)]


def _distinct(gaps: Sequence[Gap]) -> list[Gap]:
    """A gap that exceeds several levels at once is told once, with the lowest."""
    return [
        gap
        for i, gap in enumerate(gaps)
        if not i or (gap.step, gap.quantity) != (gaps[i - 1].step, gaps[i - 1].quantity)
    ]


def _rows(title: str, rows: Sequence[Row], width: int) -> str:
    cells = [[row.name, _value(row.a), _value(row.b)] for row in rows[:_MAX_ROWS]]
    more = [[f"and {count(len(rows) - _MAX_ROWS)} more", "", ""]] if len(rows) > _MAX_ROWS else []
    return columns([[title, "A", "B"], *cells, *more], width=width)


def _value(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.9g}" if math.isfinite(value) else number(value)
    if value is None:
        return number(None)
    if isinstance(value, bool | str | int):
        return str(value)
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else f"{text[:39]}…"


def _seconds(value: object) -> str:
    return seconds(value) if isinstance(value, float) else number(None)


def _times(ratio: float | None) -> str:
    return "" if ratio is None else f"{ratio:.3g}"


def _source(summary: Summary) -> dict[str, object]:
    return {
        "path": str(summary.log.path),
        "runs": [session_name(session) for session in summary.sessions],
        "num_cut_lines": summary.log.num_cut_lines,
        "num_sessions_left_out": summary.num_sessions_left_out,
    }


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return value
