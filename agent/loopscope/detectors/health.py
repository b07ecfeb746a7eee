"""Health: which anomalies are open, and what state that puts each layer in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from ..records import HEALTHY, Anomaly, Event, LayerState

__all__ = ["ENDURING", "STATE_OF", "Health"]

STATE_OF: Mapping[str, str] = {
    "nonfinite_gradient": "nonfinite",
    "nonfinite_loss": "nonfinite",
    "exploding_gradient": "exploding",
    "dead_layer": "dead",
    "vanishing_gradient": "vanishing",
    "underflow": "vanishing",
    "gradient_spike": "unstable",
    "update_ratio": "unstable",
}
"""The state of a layer that shows an anomaly of this kind; other kinds say nothing of a layer's gradient."""

ENDURING = frozenset({"inplace_corruption"})
"""Found on the few steps that are watched for it, and so on every other: open for as long as the run lasts."""


class Health:
    """What is open among the incidents of all detectors."""

    def __init__(self) -> None:
        self._tracked: dict[int, tuple[Anomaly, ...]] = {}
        """By the number of the detector."""
        self._enduring: dict[str, Anomaly] = {}
        self._open: tuple[Anomaly, ...] = ()
        self.layers: Mapping[str | None, Mapping[str, LayerState]] = {}
        """By optimizer, the layers that are not healthy."""

    def note(self, events: Iterable[Event]) -> bool:
        """Take in events that have no incident of a detector; return whether what is open has changed."""
        has_changed = False
        for event in events:
            if event.kind not in ENDURING or event.severity == "info":
                continue
            known = self._enduring.get(event.kind)
            if known is None or (known.severity, event.severity) == ("warning", "critical"):
                self._enduring[event.kind] = _found(event)
                has_changed = True
        if has_changed:
            self._open = self._now()
        return has_changed

    @property
    def anomalies(self) -> tuple[Anomaly, ...]:
        """What is open, the oldest first."""
        return self._open

    def take(self, changes: Mapping[int, tuple[Anomaly, ...]]) -> bool:
        """Take in what is open of some detectors; return whether anything has opened, closed, moved or got worse."""
        self._tracked |= changes
        now = self._now()
        if now == self._open:
            return False
        self._open, self.layers = now, _states(now)
        return True

    def _now(self) -> tuple[Anomaly, ...]:
        tracked = (anomaly for _, anomalies in sorted(self._tracked.items()) for anomaly in anomalies)
        return tuple(sorted([*tracked, *self._enduring.values()], key=_step))


def _step(anomaly: Anomaly) -> int:
    return anomaly.step


def _found(event: Event) -> Anomaly:
    layers = () if event.layer is None else (event.layer,)
    return Anomaly(kind=event.kind, severity=event.severity, optimizer=event.optimizer, step=event.step, layers=layers)


def _states(anomalies: Sequence[Anomaly]) -> dict[str | None, dict[str, LayerState]]:
    states: dict[str | None, dict[str, LayerState]] = {}
    for anomaly in anomalies:
        state = STATE_OF.get(anomaly.kind)
        if state is None or anomaly.severity == "info":
            continue
        found = LayerState(state=state, rule=anomaly.kind)
        layers = states.setdefault(anomaly.optimizer, {})
        for layer in anomaly.layers:
            layers[layer] = layers.get(layer, HEALTHY).or_worse(found)
    return states
