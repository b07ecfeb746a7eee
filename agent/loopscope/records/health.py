"""The health of the run at this moment: what is wrong, and the state of each layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["HEALTHY", "HEALTH_STATES", "Anomaly", "HealthReport", "LayerState"]

HEALTH_STATES = ("healthy", "unstable", "vanishing", "dead", "exploding", "nonfinite")
"""Of a layer, each worse than the ones before it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Anomaly:
    """An anomaly that is open."""

    kind: str
    severity: str
    optimizer: str | None
    step: int
    """Step at which it opened."""
    layers: tuple[str, ...] = ()
    """Layers that show it, the foremost first; none where it is of the whole loop."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerState:
    """The state of one layer, and the kind of event that decided it."""

    state: str
    """One of `HEALTH_STATES`."""
    rule: str
    """A kind of event; empty for `healthy`."""

    def or_worse(self, other: LayerState) -> LayerState:
        """Return the worse one of the two, this one where they are the same."""
        return max(self, other, key=lambda each: HEALTH_STATES.index(each.state))


HEALTHY = LayerState(state="healthy", rule="")


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthReport:
    """What is open since the report before changed, at the first step and at each change."""

    run: str
    agent: str
    rank: int | None
    time_unix_seconds: float
    step: int
    anomalies: tuple[Anomaly, ...]
    layers: Mapping[str | None, Mapping[str, LayerState]]
    """By optimizer, then by layer: those that are not healthy."""
