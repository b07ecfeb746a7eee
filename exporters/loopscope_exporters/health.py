"""The series of the run's health: open anomalies, and the state of each layer."""

from __future__ import annotations

from collections.abc import Iterable

from loopscope.catalog import EVENT_KINDS, HEALTH_STATES, MAX_INCIDENTS
from loopscope.records import Anomaly, HealthReport

from .points import Labels, Point, Points, clean

__all__ = ["HealthSeries"]


class HealthSeries:
    """The latest health of one agent; not thread-safe. Every kind of anomaly is there with 0 from the start."""

    def __init__(self) -> None:
        self._report: HealthReport | None = None
        self._kinds = {kind.name: 0 for kind in EVENT_KINDS}
        self.num_left_out = 0
        """Open anomalies beyond the bound, as many as there ever were at once: a counter does not go down."""

    def add(self, report: HealthReport) -> None:
        """Take the latest health."""
        self._report = report
        self.num_left_out = max(self.num_left_out, len(self._alarms()) - MAX_INCIDENTS)

    def collect(self, labels: Labels, points: Points) -> None:
        """Add the points of this moment, under the constant `labels`."""
        alarms = self._alarms()
        active = self._kinds | {anomaly.kind: 1 for anomaly in alarms if anomaly.kind in self._kinds}
        points["loopscope.anomaly.active"] += [Point({**labels, "kind": kind}, value) for kind, value in active.items()]
        for anomaly in alarms[-MAX_INCIDENTS:]:
            optimizer = {} if anomaly.optimizer is None else {"optimizer": clean(anomaly.optimizer)}
            layer = clean(anomaly.layers[0]) if anomaly.layers else ""
            own = {**labels, **optimizer, "kind": anomaly.kind, "layer": layer}
            points["loopscope.incident.info"].append(Point(own, 1))

    def states(self, optimizer: str | None, layers: Iterable[str]) -> Iterable[tuple[str, str, int]]:
        """Yield layer, state and 1 or 0: a layer that nothing is known against is healthy."""
        ill = {} if self._report is None else self._report.layers.get(optimizer, {})
        for layer in layers:
            now = ill[layer].state if layer in ill else HEALTH_STATES[0]
            for state in HEALTH_STATES:
                yield layer, state, int(state == now)

    def _alarms(self) -> list[Anomaly]:
        anomalies = () if self._report is None else self._report.anomalies
        return [anomaly for anomaly in anomalies if anomaly.severity != "info"]
