"""The page: one HTML file with everything in it, which loads nothing and runs nothing."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from functools import cache
from importlib.resources import files

from .. import activity, facts
from ..humanise import UNKNOWN, bytes_, count, number, seconds, span
from ..sessions import Session, Summary
from ..tracks import Track
from .areas import phase_chart, slowest_steps
from .elements import Html, details, join, table, tag
from .gradients import layer_heatmap, magnitude_heatmap
from .incidents import incident_list, marks
from .lines import line_chart
from .palette import palette

__all__ = ["html_page"]

_MAX_LINES = 50


def html_page(summary: Summary) -> str:
    """Return the report of a log as the text of one HTML file."""
    name = summary.log.path.name
    style = _style()
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; base-uri 'none'; form-action 'none'"
    head = tag(
        "head",
        Html('<meta charset="utf-8">'),
        Html(f'<meta http-equiv="Content-Security-Policy" content="{policy}">'),
        Html('<meta name="viewport" content="width=device-width, initial-scale=1">'),
        Html('<meta name="color-scheme" content="light dark">'),
        Html('<link rel="icon" href="data:,">'),
        tag("title", f"{name} · loopscope report"),
        Html(f"<style>{style}</style>"),
    )
    sessions = [_session(session, index) for index, session in enumerate(summary.sessions)]
    body = tag("body", tag("main", _masthead(summary), *sessions, _foot(summary)))
    return f'<!doctype html>\n<html lang="en">{head}{body}</html>\n'


@cache
def _style() -> str:
    return palette() + (files(__package__) / "page.css").read_text(encoding="utf-8")


def _masthead(summary: Summary) -> Html:
    sessions = summary.sessions
    links = [
        tag("li", tag("a", facts.session_name(session), href=f"#run{index}"), " ", _severities(session))
        for index, session in enumerate(sessions)
    ]
    notes = [tag("li", note) for note in facts.log_notes(summary)]
    return tag(
        "header",
        tag("div", tag("p", "loopscope report", class_="brand"), _theme(), class_="bar"),
        tag("h1", summary.log.path.name),
        tag("ul", *notes, class_="notes") if notes else "",
        tag("nav", tag("ul", *links), aria_label="Runs") if len(links) > 1 else "",
    )


def _theme() -> Html:
    """Three buttons that the style sheet listens to: no script is needed."""
    choices = []
    for name in ("auto", "light", "dark"):
        button = Html(f'<input type="radio" name="theme" id="theme-{name}"{" checked" if name == "auto" else ""}>')
        choices.append(tag("label", button, name))
    return tag("fieldset", tag("legend", "Colours", class_="unseen"), *choices, class_="theme")


def _session(session: Session, index: int) -> Html:
    notes = [tag("li", note) for note in facts.session_notes(session)]
    tracks = [part for track in session.tracks for part in _track(session, track, len(session.tracks) > 1)]
    return tag(
        "section",
        tag("h2", facts.session_name(session), " ", _severities(session)),
        _figures(session),
        tag("ul", *notes, class_="notes") if notes else "",
        _part("What happened", incident_list(session.incidents)),
        *tracks,
        *_activity(session),
        _origin(session),
        id=f"run{index}",
        class_="session",
    )


def _severities(session: Session) -> Html:
    return join(
        tag("span", f"{count(number)} {severity}", class_=f"badge {severity}")
        for severity, number in facts.severity_counts(session)
        if severity != "info"
    )


def _figures(session: Session) -> Html:
    pairs = [
        tag("div", tag("dt", name), tag("dd", value, tag("small", aside) if aside else ""))
        for name, value, aside in facts.figures(session)
    ]
    return tag("dl", *pairs, class_="figures")


def _part(title: str, *children: str) -> Html:
    return tag("section", tag("h3", title), *children, class_="part")


def _track(session: Session, track: Track, is_one_of_several: bool) -> list[Html]:
    if not track.num_reports and not track.grid.layers:
        return []
    suffix = f" · {facts.track_name(track)}" if is_one_of_several else ""
    events = marks(session.incidents, track.optimizer)
    source = {"backward": "as backward saw it", "log": "as logged"}.get(track.loss_source or "", "")
    charts = [
        line_chart("Loss", source, [("loss", track.loss)], marks=events),
        line_chart(
            "Global gradient norm",
            "L2",
            [("after clipping" if track.norm_pre_clip else "norm", track.norm), ("before", track.norm_pre_clip)],
            marks=events,
        ),
    ]
    if any(rate.whole.low != rate.whole.high for rate in track.rates):
        rates = [(f"group {index}", rate) for index, rate in enumerate(track.rates)]
        charts.append(line_chart("Learning rate", "by parameter group", rates, is_linear=True))
    if track.timing.whole.seconds:
        charts.append(phase_chart(track.timing))
    parts = [_part(f"Training{suffix}", tag("div", *charts, class_="charts"))]
    order = session.info.get("layers") or ()
    maps = [layer_heatmap(track, order)]
    if track.magnitudes:
        maps.append(magnitude_heatmap(track.magnitudes))
    parts.append(_part(f"Gradients{suffix}", *maps))
    tables = [*_epochs(track), *_slowest(track)]
    if tables:
        parts.append(_part(f"Epochs and slow steps{suffix}", *tables))
    return parts


def _epochs(track: Track) -> list[Html]:
    for unit in ("epoch", "window"):
        columns = track.grids[unit].columns()
        if not columns:
            continue
        rows = [
            [
                span(column.first, column.last),
                count(column.num_steps),
                number(column.loss),
                number(column.global_norm),
                count(column.num_nonfinite_steps),
                seconds(column.seconds),
                number(float(f"{column.num_samples / column.seconds:.3g}"))
                if column.num_samples and column.seconds
                else UNKNOWN,
            ]
            for column in columns
        ]
        header = [unit, "steps", "loss", "gradient norm", "not finite", "time", "samples/s"]
        num, per_row = (track.num_epochs if unit == "epoch" else track.num_windows), track.grids[unit].per_column
        title = f"{count(num)} {unit}{'' if num == 1 else 's'}" + (f", {per_row} a row" if per_row > 1 else "")
        return [details(title, table(header, rows, caption=f"By {unit}"), open=len(rows) <= 12)]
    return []


def _slowest(track: Track) -> list[Html]:
    if track.timing.whole.num_steps < 2:
        return []
    return [details("Slowest steps", slowest_steps(track.timing))]


def _activity(session: Session) -> list[Html]:
    num_steps = sum(track.num_steps for track in session.tracks) or 1
    parts = []
    syncs = activity.syncs(session)
    if syncs:
        rows = [
            [
                s.where,
                s.label,
                count(s.count),
                f"{s.count / num_steps:.3g}",
                seconds(s.seconds) if s.seconds else UNKNOWN,
            ]
            for s in syncs[:_MAX_LINES]
        ]
        header = ["line", "waits by", "times", "per step", "blocked"]
        parts.append(_part("Waits for the device", table(header, rows, caption="Syncs by line", num_texts=2)))
    compiled = [
        _lines("Recompilations", ["frame", "reason", "times"], activity.recompilations(session)),
        _lines("Graph breaks", ["line", "reason", "times"], activity.breaks(session)),
        _lines("Runs eager since", ["frame", "", "times"], activity.fallbacks(session)),
    ]
    total = activity.counter_total(session, "loopscope.compilations")
    if total:
        took = seconds(activity.counter_total(session, "loopscope.compile"))
        words = tag("p", f"{count(total)} graphs were compiled, which took {took}.", class_="muted")
        parts.append(_part("Compilation", words, *compiled))
    elif any(compiled):
        parts.append(_part("Compilation", *compiled))
    return parts


def _lines(title: str, header: Sequence[str], lines: Sequence[activity.Line]) -> Html:
    if not lines:
        return Html("")
    rows = [[line.where, line.label.replace("_", " "), count(line.count)] for line in lines[:_MAX_LINES]]
    return join([tag("h4", title), table(header, rows, caption=title, num_texts=2)])


def _origin(session: Session) -> Html:
    pairs = [tag("div", tag("dt", name), tag("dd", value)) for name, value in facts.origin(session)]
    settings = session.info.get("settings") or {}
    rows = [[str(name), json.dumps(value, ensure_ascii=False)] for name, value in settings.items()]
    if not pairs:
        return Html("")
    return _part(
        "Where it ran",
        tag("dl", *pairs, class_="figures small"),
        details("Settings", table(["setting", "value"], rows, caption="Settings", num_texts=2)) if rows else "",
    )


def _foot(summary: Summary) -> Html:
    log = summary.log
    size = bytes_(log.num_bytes)
    words = f"From {count(log.num_entries)} lines, {size}: {log.path}"
    return tag("footer", tag("p", words))
