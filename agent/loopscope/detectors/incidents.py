"""Incident: what every detector keeps of an anomaly, so that it opens once, gets worse at most, and closes."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from ..records import Event, StepReport

__all__ = ["Incident", "Severity", "event", "origin"]


class Severity(IntEnum):
    """How bad a step is; an incident is as bad as its worst step."""

    NONE = 0
    INFO = 1
    WARNING = 2
    CRITICAL = 3


@dataclass(slots=True)
class Incident:
    """Closed, or open since `step`."""

    num_calm_to_close: int
    """Calm looks in a row after which it is over, so that a flickering anomaly does not open again and again."""
    severity: Severity = Severity.NONE
    step: int = 0
    layer: str | None = None
    num_calm: int = 0

    def see(self, severity: Severity, step: int, layer: str | None = None) -> bool:
        """Take in a step that shows the anomaly; return whether that is news."""
        self.num_calm = 0
        if severity <= self.severity:
            return False
        if not self.severity:
            self.step, self.layer = step, layer
        self.severity = severity
        return True

    def see_calm(self, num_looks: int = 1) -> None:
        """Take in steps without it."""
        if self.severity:
            self.num_calm += num_looks
            if self.num_calm >= self.num_calm_to_close:
                self.severity, self.num_calm = Severity.NONE, 0


def event(report: StepReport, kind: str, severity: Severity, message: str, remedy: str, **fields: Any) -> Event:
    """Return an event of this report; `fields` are further ones, and win over the report's own."""
    values = {"message": message, "remedy": remedy, **origin(report), **fields}
    return Event(kind=kind, severity=severity.name.lower(), **values)


def origin(report: StepReport) -> dict[str, Any]:
    """Return the fields of an event that say where and when."""
    names = ("run", "agent", "rank", "optimizer", "step", "epoch", "time_unix_seconds")
    return {name: getattr(report, name) for name in names}
