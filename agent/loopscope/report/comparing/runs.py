"""What differs between two logs: what was trained, how fast, with which settings, and what happened."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from .. import activity
from ..incidents import Incidents, where
from ..log import Entry, Log
from ..sessions import Selection, Session, Summary, summarise
from ..tracks import Track
from .steps import StepDifferences, walk

__all__ = ["LEVELS", "Comparison", "Pair", "Row", "compare"]

LEVELS = (0.0, 1e-6, 1e-4, 1e-2)
"""Relative differences whose first step is told beside that of `rtol`: any bit, float32's digits, visible."""
_OWN = frozenset({"jsonl", "run", "port", "host"})
"""Settings that are a run's own and say nothing of its training."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One figure of both runs; `ratio` is b over a, None where it says nothing."""

    name: str
    a: object
    b: object
    unit: str = ""
    ratio: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """One optimizer in both runs."""

    name: str
    steps: StepDifferences
    figures: tuple[Row, ...]
    times: tuple[Row, ...]
    """Seconds a step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Two runs: of each log the latest one of those that were wanted."""

    a: Summary
    b: Summary
    rtol: float
    pairs: tuple[Pair, ...]
    only_a: tuple[str, ...]
    """Agents and optimizers that the other log does not have."""
    only_b: tuple[str, ...]
    settings: tuple[Row, ...]
    versions: tuple[Row, ...]
    syncs: tuple[Row, ...]
    """Waits a step, by line and kind."""
    compilations: tuple[Row, ...]
    events_only_a: tuple[str, ...]
    events_only_b: tuple[str, ...]

    @property
    def is_equal(self) -> bool:
        """Whether both trained the same: steps, losses, gradient norms and learning rates, up to `rtol`."""
        return not (self.only_a or self.only_b) and all(is_pair_equal(pair, self.rtol) for pair in self.pairs)


def is_pair_equal(pair: Pair, rtol: float) -> bool:
    """Whether an optimizer did the same in both runs."""
    steps = pair.steps
    has_gap = any(gap.level == rtol for gap in steps.gaps)
    has_other_parameters = bool(steps.parameters_only_a or steps.parameters_only_b)
    has_other_length = any(row.a != row.b for row in pair.figures if row.name in {"steps", "last step", "epochs"})
    return not (has_gap or has_other_parameters or has_other_length)


def compare(log_a: Log, log_b: Log, *, rtol: float = 0.0, wanted: Selection | None = None) -> Comparison:
    """Compare two logs; reads each once, and once more for every optimizer, in bounded memory."""
    a, b = (_latest(summarise(log, wanted)) for log in (log_a, log_b))
    keys_a, keys_b = _tracks(a), _tracks(b)
    if len(keys_a) == len(keys_b) == 1:
        together = [(next(iter(keys_a)), next(iter(keys_b)))]  # whatever they are called
    else:
        together = [(key, key) for key in keys_a if key in keys_b]
    pairs = [_pair(a.log, b.log, keys_a[one], keys_b[other], rtol) for one, other in together]
    matched_a, matched_b = {one for one, _ in together}, {other for _, other in together}
    return Comparison(
        a=a,
        b=b,
        rtol=rtol,
        pairs=tuple(pairs),
        only_a=tuple(_name(key) for key in keys_a if key not in matched_a),
        only_b=tuple(_name(key) for key in keys_b if key not in matched_b),
        settings=_differing(_settings(a), _settings(b)),
        versions=_differing(_versions(a), _versions(b)),
        syncs=_differing(_syncs(a), _syncs(b), default=0.0),
        compilations=_differing(_compilations(a), _compilations(b), default=0.0),
        events_only_a=_events(a, b),
        events_only_b=_events(b, a),
    )


_Key = tuple[str, int | None, str | None]


def _latest(summary: Summary) -> Summary:
    """Keep the sessions of the run that began last."""
    run = summary.sessions[-1].run
    sessions = tuple(session for session in summary.sessions if session.run == run)
    left_out = summary.num_sessions_left_out + len(summary.sessions) - len(sessions)
    return replace(summary, sessions=sessions, num_sessions_left_out=left_out)


def _tracks(summary: Summary) -> dict[_Key, tuple[Session, Track]]:
    return {
        (session.agent, session.rank, track.optimizer): (session, track)
        for session in summary.sessions
        for track in session.tracks
    }


def _name(key: _Key) -> str:
    agent, rank, optimizer = key
    return agent + ("" if rank is None else f" rank {rank}") + (f" optimizer {optimizer}" if optimizer else "")


def _pair(log_a: Log, log_b: Log, a: tuple[Session, Track], b: tuple[Session, Track], rtol: float) -> Pair:
    (session_a, track_a), (session_b, track_b) = a, b
    levels = sorted({*LEVELS, rtol})
    steps = walk(_steps(log_a, session_a, track_a), _steps(log_b, session_b, track_b), levels)
    return Pair(
        name=_name((session_a.agent, session_a.rank, track_a.optimizer)),
        steps=steps,
        figures=tuple(Row(name=name, a=value, b=_figures(track_b)[name]) for name, value in _figures(track_a).items()),
        times=_times(track_a, track_b),
    )


def _steps(log: Log, session: Session, track: Track) -> Iterator[Entry]:
    key = (session.run, session.agent, session.rank, track.optimizer)
    for entry in log:
        if entry["type"] == "step" and key == tuple(entry.get(n) for n in ("run", "agent", "rank", "optimizer")):
            yield entry


def _figures(track: Track) -> dict[str, float | None]:
    loss, rates = track.loss, track.rates
    return {
        "steps": track.num_steps,
        "last step": track.last_step,
        "epochs": track.num_epochs,
        "skipped steps": sum(track.num_skipped.values()),
        "last loss": loss.last,
        "lowest loss": loss.whole.low if loss.whole.num_finite else None,
        "losses not finite": loss.whole.num_nonfinite,
        "last global norm": track.norm.last,
        "first learning rate": rates[0].first if rates else None,
        "last learning rate": rates[0].last if rates else None,
    }


def _times(a: Track, b: Track) -> tuple[Row, ...]:
    times_a, times_b = _seconds(a), _seconds(b)
    names = [*times_a, *(name for name in times_b if name not in times_a)]
    return tuple(
        Row(name=name, a=times_a.get(name), b=times_b.get(name), unit="s", ratio=_ratio(times_a, times_b, name))
        for name in names
    )


def _seconds(track: Track) -> dict[str, float]:
    whole = track.timing.whole
    if not whole.num_steps:
        return {}
    median = track.timing.quantile(0.5) or 0.0
    means = {name: seconds / whole.num_steps for name, seconds in whole.phases.items()}
    return {"step, median": median, "step, mean": whole.seconds / whole.num_steps, **means}


def _ratio(a: Mapping[str, float], b: Mapping[str, float], name: str) -> float | None:
    return b[name] / a[name] if a.get(name) and name in b else None


def _settings(summary: Summary) -> dict[str, object]:
    info = summary.sessions[0].info
    model = {name: info.get(name) for name in ("model", "num_parameters", "num_elements", "layers") if name in info}
    settings = {name: value for name, value in (info.get("settings") or {}).items() if name not in _OWN}
    return model | settings


def _versions(summary: Summary) -> dict[str, object]:
    info = summary.sessions[0].info
    return {**(info.get("versions") or {}), **({"host": info["host"]} if "host" in info else {})}


def _syncs(summary: Summary) -> dict[str, object]:
    found: dict[str, object] = {}
    for session in summary.sessions:
        num_steps = sum(track.num_steps for track in session.tracks) or 1
        found |= {f"{line.where} {line.label}": line.count / num_steps for line in activity.syncs(session)}
    return found


def _compilations(summary: Summary) -> dict[str, object]:
    found: dict[str, object] = {}
    for session in summary.sessions:
        for what, lines in (
            ("recompiled", activity.recompilations(session)),
            ("graph break", activity.breaks(session)),
            ("runs eager", activity.fallbacks(session)),
        ):
            found |= {f"{what}: {line.where} {line.label}".strip(): line.count for line in lines}
    return found


def _differing(a: Mapping[str, object], b: Mapping[str, object], default: object = None) -> tuple[Row, ...]:
    names = [*a, *(name for name in b if name not in a)]
    pairs = [(name, a.get(name, default), b.get(name, default)) for name in names]
    return tuple(Row(name=name, a=one, b=other) for name, one, other in pairs if one != other)


def _events(summary: Summary, other: Summary) -> tuple[str, ...]:
    """Return what happened in one only, by kind and place: steps and texts differ from run to run."""
    theirs = {name for session in other.sessions for name in _kinds(session.incidents)}
    ours: Sequence[str] = [name for session in summary.sessions for name in _kinds(session.incidents)]
    return tuple(name for name in dict.fromkeys(ours) if name not in theirs)


def _kinds(incidents: Incidents) -> Iterator[str]:
    for incident in incidents.ranked():
        for event in (incident.head, *incident.followers):
            place = where(event)
            yield f"{event['severity']}: {event['kind']}" + (f" at {place}" if place else "")
