"""Whether the run is healthy, in a word, and what is wrong: the anomalies that are open and those told before."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from ..report.humanise import count, seconds, steps
from ..report.incidents import Incident, Incidents, rank, where
from .client import Failure
from .reading import entries, real, sequence, text, whole
from .state import State

__all__ = ["Case", "Grade", "Link", "Verdict", "cases", "step_age_seconds", "verdict"]

Grade: TypeAlias = Literal["good", "unknown", "warning", "critical"]

STALLED_SECONDS = 60.0
"""Without a step for this long, and for `STALLED_STEPS` of the usual ones, a loop is said to stand still. The alert
waits for 15 minutes, to wake nobody for a validation pass; who looks at a terminal wants to know at once."""
STALLED_STEPS = 20.0
_GRAVE = ("critical", "warning")


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """How it stands with the server."""

    failure: Failure | None = None
    """Of the latest question."""
    silent_seconds: float = 0.0
    """Since the latest answer."""
    is_late: bool = False
    """Whether the answer to the question under way is overdue."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The run in a word, and in a few more."""

    grade: Grade
    word: str
    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """An anomaly, with those that followed from it."""

    severity: str
    kind: str
    where: str
    """Layer, parameter or line, and the optimizer where there are several; empty where it is of the whole loop."""
    when: str
    """Its steps, in words."""
    followers: Sequence[str] = ()
    """Kinds that it is the first cause of."""
    message: str = ""
    """Empty where the event is no longer kept."""
    remedy: str = ""
    num_open: int = 0
    """Anomalies of it that are open; 0 where it is over, or of the kind that is told once."""

    @property
    def is_open(self) -> bool:
        """Whether any anomaly of it is open."""
        return self.num_open > 0


def verdict(state: State, link: Link, found: Sequence[Case]) -> Verdict:
    """Return the run in a word; `found` are its cases."""
    health = _health(found)
    if link.failure is not None and link.failure.kind in {"gone", "missing"}:
        words = f"the run has ended or its process is gone (last seen {_ago(link.silent_seconds)} ago). {_was(health)}"
        return Verdict(grade=_worse(health.grade, "unknown"), word="ENDED", words=words)
    if link.failure is not None or link.is_late:
        why = "suspended, or very busy" if link.failure is None else _REASONS[link.failure.kind]
        words = f"for {_ago(link.silent_seconds)}: {why}. {_was(health)}"
        return Verdict(grade=_worse(health.grade, "unknown"), word="NO ANSWER", words=words)
    age = step_age_seconds(state, link)
    if age is None:
        return Verdict(grade=_worse(health.grade, "unknown"), word="STARTING", words="attached, and no step yet")
    usual = _usual_seconds(state)
    if age > max(STALLED_SECONDS, STALLED_STEPS * (usual or 0.0)):
        takes = "" if usual is None else f" (it takes {seconds(usual)})"
        words = f"no step for {_ago(age)}{takes}. {_was(health)}"
        return Verdict(grade=_worse(health.grade, "warning"), word="STALLED", words=words)
    return health


def cases(state: State) -> Sequence[Case]:
    """Return what is open, the worst first, then what was told before and is grave, the worst and latest first."""
    incidents = Incidents()
    for event in state.events:
        incidents.add(event)
    ranked = sorted(incidents.ranked(), key=lambda incident: -incident.last_step)
    anomalies = list(entries(state.health.get("anomalies")))
    opened: list[Case] = []
    told: list[Case] = []
    for incident in ranked:
        still = [anomaly for anomaly in anomalies if _has(incident, anomaly)]
        anomalies = [anomaly for anomaly in anomalies if anomaly not in still]
        if still:
            opened.append(_open(incident, still))
        elif incident.severity in _GRAVE:
            told.append(_told(incident))
    opened += [_bare(anomaly) for anomaly in anomalies]
    return [case for group in (opened, told) for case in sorted(group, key=lambda case: rank(case.severity))]


def step_age_seconds(state: State, link: Link) -> float | None:
    """Return how long ago the latest step was; None before the first, and where the clocks do not say."""
    told, now = real(state.step.get("time_unix_seconds")), state.server_seconds
    age = math.nan if told is None or now is None else now - told
    return max(age, 0.0) + link.silent_seconds if math.isfinite(age) else None


_REASONS: Mapping[str, str] = {
    "silent": "suspended, or very busy",
    "unreachable": "the host or the network is away",
    "token": "another token is asked for now",
    "foreign": "something else answers there now",
}


def _health(found: Sequence[Case]) -> Verdict:
    opened = [case for case in found if case.is_open and case.severity in _GRAVE]
    told = [case.severity for case in found if not case.is_open]
    before = " and ".join(f"{told.count(severity)} {severity}" for severity in _GRAVE if severity in told)
    if not opened:
        words = f"nothing is open; before: {before}" if before else "no anomaly"
        return Verdict(grade="good", word="HEALTHY", words=words)
    worst: Grade = "critical" if any(case.severity == "critical" for case in opened) else "warning"
    num = sum(case.num_open for case in opened)
    size = f"{count(num)} anomal{'y' if num == 1 else 'ies'} open"
    return Verdict(grade=worst, word=worst.upper(), words=size + (f"; before: {before}" if before else ""))


def _was(health: Verdict) -> str:
    return f"It was {health.word.lower()}: {health.words}"


def _worse(one: Grade, other: Grade) -> Grade:
    order: Sequence[Grade] = ("good", "unknown", "warning", "critical")
    return max(one, other, key=order.index)


def _ago(duration: float) -> str:
    return seconds(round(duration))


def _usual_seconds(state: State) -> float | None:
    return state.history.recent().step_seconds or real(state.step.get("duration_seconds"))


def _has(incident: Incident, anomaly: Mapping[str, Any]) -> bool:
    """Whether an anomaly that is open is this incident or a part of it."""
    kind, optimizer, step = anomaly.get("kind"), anomaly.get("optimizer"), whole(anomaly.get("step"))
    if incident.head["kind"] == kind and incident.head["optimizer"] == optimizer and incident.last_step >= step:
        return True
    return any(
        event["kind"] == kind and event["optimizer"] == optimizer and event["step"] >= step
        for event in incident.followers
    )


def _open(incident: Incident, anomalies: Sequence[Mapping[str, Any]]) -> Case:
    severity = min((text(anomaly.get("severity")) for anomaly in anomalies), key=rank)
    since = min(whole(anomaly.get("step")) for anomaly in anomalies)
    kinds = [text(anomaly.get("kind")) for anomaly in anomalies]
    return _case(incident, severity, f"since step {since:,}", kinds)


def _told(incident: Incident) -> Case:
    return _case(
        incident, incident.severity, steps(incident.head["step"], max(incident.last_step, incident.head["step"]))
    )


def _case(incident: Incident, severity: str, when: str, open_kinds: Sequence[str] = ()) -> Case:
    head = incident.head
    kinds = dict.fromkeys([*(event["kind"] for event in incident.followers), *open_kinds])
    return Case(
        severity=severity,
        kind=head["kind"],
        where=_place(where(head), head["optimizer"]),
        when=when,
        followers=[kind for kind in kinds if kind != head["kind"]],
        message=head["message"],
        remedy=head["remedy"],
        num_open=len(open_kinds),
    )


def _bare(anomaly: Mapping[str, Any]) -> Case:
    layers = [text(layer) for layer in sequence(anomaly.get("layers"))]
    more = f" and {count(len(layers) - 1)} more" if len(layers) > 1 else ""
    return Case(
        severity=text(anomaly.get("severity")),
        kind=text(anomaly.get("kind")),
        where=_place(f"{layers[0]}{more}" if layers else "", anomaly.get("optimizer")),
        when=f"since step {whole(anomaly.get('step')):,}",
        num_open=1,
    )


def _place(name: str, optimizer: object) -> str:
    return " of ".join(part for part in (name, text(optimizer)) if part)
