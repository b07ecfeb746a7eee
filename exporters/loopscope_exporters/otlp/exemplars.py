"""Exemplars: steps with an incident, linked from the metrics to their spans.

https://opentelemetry.io/docs/specs/otel/metrics/data-model/#exemplars
"""

from __future__ import annotations

import threading
from collections import deque

from loopscope.records import Event

from ..points import clean
from .distributions import DURATION
from .messages import attributes, metrics_pb2, nanoseconds
from .spans import Incident

__all__ = ["ANOMALIES", "Exemplars", "Key"]

ANOMALIES = "loopscope.anomalies"
MAX_EXEMPLARS = 8
"""Of one series between two exports: the latest."""
MAX_SERIES = 128

Key = tuple[str, str | None]
"""Name of the metric, and the value of the label that tells its series apart: optimizer or kind."""
_Found = dict[Key, deque[metrics_pb2.Exemplar]]


class Exemplars:
    """What was measured at steps with an incident since the last delivered export; `add` and `take` on two threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._found: _Found = {}
        self._under_way: _Found = {}

    def add_step(self, incident: Incident) -> None:
        """Link the duration of a step to its span."""
        if incident.duration_seconds is not None:
            optimizer = None if incident.optimizer is None else clean(incident.optimizer)
            self._add((DURATION, optimizer), incident, incident.duration_seconds)

    def add_event(self, event: Event, incident: Incident) -> None:
        """Link the count of an event to the span of its step."""
        self._add((ANOMALIES, clean(event.kind)), incident, 1.0)

    def take(self) -> _Found:
        """Return what is to be sent now."""
        with self._lock:
            found, self._found = self._found, {}
        for key, exemplars in found.items():
            self._under_way.setdefault(key, deque(maxlen=MAX_EXEMPLARS)).extend(exemplars)
        return self._under_way

    def settle(self, *, is_delivered: bool) -> None:
        """Say what became of it; what was not delivered is sent again."""
        if is_delivered:
            self._under_way = {}

    def _add(self, key: Key, incident: Incident, value: float) -> None:
        exemplar = metrics_pb2.Exemplar(
            time_unix_nano=nanoseconds(incident.time_unix_seconds),
            as_double=value,
            trace_id=incident.trace_id,
            span_id=incident.span_id,
            filtered_attributes=attributes({"step": incident.step}),
        )
        with self._lock:
            if key in self._found or len(self._found) < MAX_SERIES:
                self._found.setdefault(key, deque(maxlen=MAX_EXEMPLARS)).append(exemplar)
