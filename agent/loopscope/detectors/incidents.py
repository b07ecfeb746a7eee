"""Incident: what every detector keeps of an anomaly, so that it opens once, gets worse at most, and closes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from ..records import Anomaly, Event, StepReport

__all__ = ["Incident", "Incidents", "Severity", "event", "origin"]


class Severity(IntEnum):
    """How bad a step is; an incident is as bad as its worst step."""

    NONE = 0
    INFO = 1
    WARNING = 2
    CRITICAL = 3


@dataclass(slots=True)
class Incident:
    """Closed, or open since `step`."""

    owner: Incidents
    kind: str
    optimizer: str | None
    num_calm_to_close: int
    """Calm looks in a row after which it is over, so that a flickering anomaly does not open again and again."""
    severity: Severity = Severity.NONE
    step: int = 0
    layers: tuple[str, ...] = ()
    """Layers that show it, the foremost first; none where it is of the whole loop."""
    num_calm: int = 0

    @property
    def layer(self) -> str | None:
        """The foremost layer."""
        return self.layers[0] if self.layers else None

    def see(self, severity: Severity, step: int, layers: Sequence[str | None] = ()) -> bool:
        """Take in a step that shows the anomaly; return whether that is news."""
        self.num_calm = 0
        if severity <= self.severity:
            return False
        if not self.severity:
            self.step, self.layers = step, tuple(layer for layer in layers if layer is not None)
        self.severity = severity
        self.owner.num_changes += 1
        return True

    def see_calm(self, num_looks: int = 1) -> None:
        """Take in steps without it."""
        if self.severity:
            self.num_calm += num_looks
            if self.num_calm >= self.num_calm_to_close:
                self.close()

    def hold(self, layers: Sequence[str], step: int) -> None:
        """Be open with exactly these layers; closed where there are none."""
        if not layers:
            self.close()
        elif not self.severity or self.layers != tuple(layers):
            self.step = self.step if self.severity else step
            self.severity, self.layers = max(self.severity, Severity.WARNING), tuple(layers)
            self.owner.num_changes += 1

    def close(self) -> None:
        """End it."""
        self.owner.num_changes += bool(self.severity)
        self.severity, self.num_calm = Severity.NONE, 0


class Incidents:
    """All incidents of one detector, which lets others see what is open."""

    def __init__(self) -> None:
        self._all: list[Incident] = []
        self.num_changes = 0
        """Times that one has opened, closed, moved or got worse."""

    def new(self, kind: str, optimizer: str | None, num_calm_to_close: int) -> Incident:
        """Return a closed incident, which is listed here once it opens."""
        incident = Incident(self, kind, optimizer, num_calm_to_close)
        self._all.append(incident)
        return incident

    def drop(self, optimizer: str | None) -> None:
        """Forget those of an optimizer whose parameters have changed."""
        self._all = [incident for incident in self._all if incident.optimizer != optimizer]
        self.num_changes += 1

    def anomalies(self) -> tuple[Anomaly, ...]:
        """Return those that are open, as they are now."""
        return tuple(_anomaly(incident) for incident in self._all if incident.severity)


def _anomaly(incident: Incident) -> Anomaly:
    return Anomaly(
        kind=incident.kind,
        severity=incident.severity.name.lower(),
        optimizer=incident.optimizer,
        step=incident.step,
        layers=incident.layers,
    )


def event(report: StepReport, kind: str, severity: Severity, message: str, remedy: str, **fields: Any) -> Event:
    """Return an event of this report; `fields` are further ones, and win over the report's own."""
    values = {"message": message, "remedy": remedy, **origin(report), **fields}
    return Event(kind=kind, severity=severity.name.lower(), **values)


def origin(report: StepReport) -> dict[str, Any]:
    """Return the fields of an event that say where and when."""
    names = ("run", "agent", "rank", "optimizer", "step", "epoch", "time_unix_seconds")
    return {name: getattr(report, name) for name in names}
