"""The report in a terminal: the same facts as the page's, as plain text of a given width, without colours."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence

import numpy as np

from . import activity, facts
from .curves import Curve
from .humanise import UNKNOWN, bytes_, count, escape_controls, number, seconds, share, span, steps
from .incidents import Incident, happened, where
from .layers import HEALTHY, LayerColumn
from .sessions import Session, Summary
from .tracks import Track

__all__ = ["columns", "finish", "sparkline", "text_report"]

_BARS = "▁▂▃▄▅▆▇█"
_ASCII_BARS = "_.-=+*%#"
_PLAIN = str.maketrans({"·": "|", "µ": "u", "…": "~", "∞": "inf"})
_MAX_ROWS = 20
_MIN_TEXT = 8
"""Characters of a text in a table, below which it says nothing any more."""
_MAX_INCIDENTS = 20


def text_report(summary: Summary, *, width: int, is_unicode: bool = True) -> str:
    """Return the report as lines of at most `width` characters, tables excepted whose cells are wider."""
    log = summary.log
    parts = [f"{log.path.name}: {count(log.num_entries)} lines, {bytes_(log.num_bytes)}"]
    parts += [_wrap(f"! {note}", width) for note in facts.log_notes(summary)]
    for session in summary.sessions:
        parts += ["", *_session(session, width, _BARS if is_unicode else _ASCII_BARS)]
    return finish(parts, is_unicode)


def finish(parts: Sequence[str], is_unicode: bool) -> str:
    """Return the parts below each other, without what a terminal would act on or, unless `is_unicode`, not show."""
    lines = [escape_controls(line) for line in "\n".join(parts).split("\n")]
    text = "\n".join(lines) + "\n"
    return text if is_unicode else text.translate(_PLAIN).encode("ascii", "backslashreplace").decode()


def columns(rows: Sequence[Sequence[str]], *, num_texts: int = 1, width: int = 0) -> str:
    """Return a table, texts to the left and numbers to the right; long texts are shortened until it fits `width`."""
    rows = [[escape_controls(cell) for cell in row] for row in rows]
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    surplus = sum(widths) + 2 * (len(widths) - 1) - width if width else 0
    while surplus > 0 and max(widths[:num_texts]) > _MIN_TEXT:
        widest = max(range(num_texts), key=widths.__getitem__)
        widths[widest] -= 1
        surplus -= 1
    lines = []
    for row in rows:
        cells = [_fit(cell, size) for cell, size in zip(row, widths, strict=True)]
        cells = [
            c.ljust(w) if i < num_texts else c.rjust(w) for i, (c, w) in enumerate(zip(cells, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join([lines[0], "-" * (sum(widths) + 2 * (len(widths) - 1)), *lines[1:]])


def sparkline(curve: Curve, width: int, bars: str = _BARS) -> str:
    """Return the means over as many spans, logarithmic where the page's chart is; `!` is not finite, a gap unknown."""
    spans = curve.coarse(width)
    means = np.array([each.mean for each in spans])
    finite = means[np.isfinite(means)]
    if finite.size and finite.min() > 0 and finite.max() / finite.min() >= 20:
        means = np.log(means)
        finite = np.log(finite)
    low, high = (finite.min(), finite.max()) if finite.size else (0.0, 0.0)
    levels = np.full(len(means), 0.5) if low == high else (means - low) / (high - low)
    return "".join(
        "!" if each.num_nonfinite else bars[min(int(level * len(bars)), len(bars) - 1)] if math.isfinite(level) else " "
        for each, level in zip(spans, levels.tolist(), strict=True)
    )


def _session(session: Session, width: int, bars: str) -> list[str]:
    name = facts.session_name(session)
    parts = [name, "=" * len(name)]
    pairs = [f"{label} {value}" + (f" ({aside})" if aside else "") for label, value, aside in facts.figures(session)]
    parts.append(_wrap(", ".join(pairs), width))
    if known := facts.origin(session):
        parts.append(_wrap(", ".join(f"{label} {value}" for label, value in known), width))
    parts += [_wrap(f"! {note}", width) for note in facts.session_notes(session)]
    parts += _incidents(session, width)
    for track in session.tracks:
        parts += _track(session, track, width, bars, len(session.tracks) > 1)
    return parts + _activity(session, width)


def _incidents(session: Session, width: int) -> list[str]:
    grave = session.incidents.ranked("critical", "warning")
    rest = session.incidents.ranked("info")
    if not grave:
        parts = ["", "Nothing to act on."]
    else:
        parts = [part for incident in grave[:_MAX_INCIDENTS] for part in _incident(incident, width)]
    left = len(grave) - _MAX_INCIDENTS
    if left > 0:
        parts += ["", f"{count(left)} further incidents are in the log."]
    if rest:
        kinds = sorted({str(incident.head["kind"]) for incident in rest})
        parts.append(_wrap(f"{count(len(rest))} to know of: {', '.join(kinds)}.", width))
    return parts


def _incident(incident: Incident, width: int) -> list[str]:
    head = incident.head
    place = f" at {where(head)}" if where(head) else ""
    cause = ", first cause" if head.get("first_cause") else ""
    title = f"{incident.severity}: {head['kind']}{place}, step {head['step']:,}{cause}"
    parts = ["", _wrap(title, width)]
    parts.append(_wrap(f"{head['message']} {head.get('remedy') or ''}".strip(), width, "  "))
    if known := happened(head):
        parts.append(_wrap("In that step: " + "; ".join(f"{n} {v}".strip() for n, v in known) + ".", width, "  "))
    if incident.followers:
        kinds = ", ".join(dict.fromkeys(str(event["kind"]) for event in incident.followers))
        parts.append(_wrap(f"{count(incident.num_events - 1)} followed: {kinds}.", width, "  "))
    elif incident.num_events > 1:
        parts.append(f"  {count(incident.num_events)} times, {steps(head['step'], incident.last_step)}.")
    return parts


def _track(session: Session, track: Track, width: int, bars: str, is_one_of_several: bool) -> list[str]:
    parts = [f"\n{facts.track_name(track)}:"] if is_one_of_several else []
    parts.append("")
    for name, curve in (("loss", track.loss), ("gradient norm", track.norm)):
        if curve:
            whole = curve.whole
            ends = f"{number(curve.first)} to {number(curve.last)}"
            bad = f", {count(whole.num_nonfinite)} not finite" if whole.num_nonfinite else ""
            parts.append(f"{name:<13} {sparkline(curve, min(60, width - 46), bars)}  {ends}{bad}".rstrip())
    if track.timing.whole.seconds:
        phases = track.timing.whole.phases
        total = track.timing.whole.seconds
        words = ", ".join(f"{name.replace('_', ' ')} {share(took / total)}" for name, took in phases.items())
        parts.append(_wrap(f"time of a step: {words}", width))
    return parts + _epochs(track, width) + _layers(session, track, width)


def _epochs(track: Track, width: int) -> list[str]:
    for unit in ("epoch", "window"):
        cells = track.grids[unit].columns()
        if not cells:
            continue
        rows = [
            [
                span(cell.first, cell.last),
                count(cell.num_steps),
                number(cell.loss),
                number(cell.global_norm),
                count(cell.num_nonfinite_steps),
                seconds(cell.seconds),
            ]
            for cell in _ends(cells)
        ]
        return ["", columns([[unit, "steps", "loss", "gradient norm", "not finite", "time"], *rows], width=width)]
    return []


def _layers(session: Session, track: Track, width: int) -> list[str]:
    grid = track.grid
    cells, layers = grid.columns(), grid.layers
    if not cells or not layers:
        return ["", "No gradients were logged."]
    norms_CG = np.array([cell.norms(len(layers)) for cell in cells])
    health = {layer: (state, rule) for layer, state, rule in track.health()}
    order = [*(layer for layer in session.info.get("layers") or () if layer in layers), *layers]
    ranked = sorted(dict.fromkeys(order), key=lambda layer: health.get(layer, (HEALTHY, ""))[0] == HEALTHY)
    rows = []
    for layer in ranked[:_MAX_ROWS]:
        index = layers.index(layer)
        finite = norms_CG[np.isfinite(norms_CG[:, index]), index]
        first, last = (number(float(finite[0])), number(float(finite[-1]))) if finite.size else (UNKNOWN, UNKNOWN)
        num_bad = sum(int(cell.is_nonfinite(len(layers))[index] and cell.num_nonfinite_G[index]) for cell in cells)
        state, rule = health.get(layer, (UNKNOWN, ""))
        rows.append([layer, f"{state} ({rule})" if rule else state, first, last, count(num_bad)])
    header = ["layer", "health", "first norm", "last norm", "not finite"]
    parts = ["", columns([header, *rows], num_texts=2, width=width)]
    left = len(ranked) - len(rows)
    return [*parts, f"{count(left)} further layers are in the log."] if left else parts


def _activity(session: Session, width: int) -> list[str]:
    parts: list[str] = []
    syncs = activity.syncs(session)
    if syncs:
        rows = [[line.where, line.label, count(line.count), seconds(line.seconds)] for line in syncs[:_MAX_ROWS]]
        parts += ["", columns([["line", "waits by", "times", "blocked"], *rows], num_texts=2, width=width)]
    for title, lines in (
        ("recompiled", activity.recompilations(session)),
        ("graph break", activity.breaks(session)),
        ("runs eager", activity.fallbacks(session)),
    ):
        if lines:
            rows = [[line.where, line.label, count(line.count)] for line in lines[:_MAX_ROWS]]
            parts += ["", columns([[title, "reason", "times"], *rows], num_texts=2, width=width)]
    return parts


def _ends(cells: Sequence[LayerColumn]) -> Sequence[LayerColumn]:
    """Every one of a few, the first and the last of many."""
    half = _MAX_ROWS // 2
    return cells if len(cells) <= _MAX_ROWS else [*cells[:half], *cells[-half:]]


def _fit(cell: str, width: int) -> str:
    """Shorten in the middle: layers and lines are told apart by their ends."""
    if len(cell) <= width:
        return cell
    half = (width - 1) // 2
    return f"{cell[: width - 1 - half]}…{cell[-half:]}"


def _wrap(text: str, width: int, indent: str = "") -> str:
    return textwrap.fill(escape_controls(text), width, initial_indent=indent, subsequent_indent=indent or "  ")
