"""The events of a run, grouped: those of one incident with its first cause, and repetitions of the same one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from .humanise import number, seconds
from .log import Entry, real

__all__ = ["SEVERITIES", "Incident", "Incidents", "happened", "rank", "where"]

SEVERITIES = ("critical", "warning", "info")
"""The worst first."""
MAX_INCIDENTS = 500
"""Of one severity; what comes later is counted."""
MAX_FOLLOWERS = 50


@dataclass(slots=True)
class Incident:
    """An event, and those that belong to it: its consequences, or the same one again."""

    head: Entry
    """The first cause; the earliest event where none is marked."""
    num_events: int = 1
    last_step: int = 0
    severity: str = "info"
    followers: list[Entry] = field(default_factory=list)
    """Other events of the incident, MAX_FOLLOWERS at the most."""

    def add(self, event: Entry) -> None:
        """Take in a further event."""
        self.num_events += 1
        self.last_step = max(self.last_step, event["step"])
        self.severity = min(self.severity, event["severity"], key=rank)
        if _incident(event) is None:
            return
        if _is_before(event, self.head):
            self.head, event = event, self.head
        if len(self.followers) < MAX_FOLLOWERS:
            self.followers.append(event)


class Incidents:
    """Takes events in and has them as incidents, the worst and earliest first."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        """Every event by kind, those left out included."""
        self.num_left_out = 0
        self._incidents: dict[tuple[object, ...], Incident] = {}
        self._sizes: Counter[str] = Counter()

    def add(self, event: Entry) -> None:
        """Take in one event line."""
        self.counts[event["kind"]] += 1
        incident = _incident(event)
        key: tuple[object, ...] = (
            (incident,)
            if incident is not None
            else (event["kind"], event["severity"], event.get("layer"), event.get("site"), event.get("optimizer"))
        )
        if key in self._incidents:
            self._incidents[key].add(event)
        elif self._sizes[event["severity"]] >= MAX_INCIDENTS:
            self.num_left_out += 1
        else:
            self._sizes[event["severity"]] += 1
            self._incidents[key] = Incident(event, last_step=event["step"], severity=event["severity"])

    def ranked(self, *severities: str) -> Sequence[Incident]:
        """Return the incidents of these severities (of all without any), the worst first, then the earliest."""
        wanted = [
            incident for incident in self._incidents.values() if not severities or incident.severity in severities
        ]
        return sorted(wanted, key=lambda incident: (rank(incident.severity), incident.head["step"]))


def where(event: Entry) -> str:
    """Return the layer, the parameter or the line that an event is about, empty where it is about the whole."""
    attributes = event.get("attributes") or {}
    return str(event.get("site") or attributes.get("parameter") or event.get("layer") or "")


def happened(event: Entry) -> Sequence[tuple[str, str]]:
    """Return what else is known of an event's step: what it was and its value, the telling ones first."""
    known = (event.get("attributes") or {}).get("happened")
    if not isinstance(known, dict):
        return []
    pairs = [("", _plain(each)) for each in known.get("events") or ()]
    pairs += [(f"waited at {site}", seconds(real(took))) for site, took in (known.get("syncs") or {}).items()]
    pairs += [(_plain(name), seconds(real(took))) for name, took in (known.get("pauses") or {}).items()]
    pairs += [(_plain(name), seconds(real(took))) for name, took in (known.get("phases") or {}).items()]
    for name in ("batch", "loss", "learning_rates", "grad_scale", "norm_before_clipping"):
        if (value := known.get(name)) is not None:
            values = value if isinstance(value, list) else [value]
            pairs.append((_plain(name), ", ".join(number(real(each)) for each in values)))
    return pairs


def rank(severity: str) -> int:
    """0 is the worst."""
    return SEVERITIES.index(severity) if severity in SEVERITIES else len(SEVERITIES)


def _plain(name: object) -> str:
    return str(name).replace("_", " ")


def _incident(event: Entry) -> object:
    return (event.get("attributes") or {}).get("incident")


def _is_before(event: Entry, head: Entry) -> bool:
    return (not event.get("first_cause"), event["step"]) < (not head.get("first_cause"), head["step"])
