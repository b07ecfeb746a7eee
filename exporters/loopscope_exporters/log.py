"""Log: events that a person should act on, as lines of the logger `loopscope`."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Mapping

from loopscope.protocols import Exporter
from loopscope.records import Event, Record

__all__ = ["LogExporter", "create"]

MAX_LINES_PER_MINUTE = 20
_LEVELS = {"warning": logging.WARNING, "critical": logging.CRITICAL}
_logger = logging.getLogger("loopscope")


class LogExporter:
    """Writes one line for each event of severity warning or critical, at most 20 in a minute of the events' own time.

    What is held back is counted, and the next line says how many events that were.
    """

    name = "log"

    def __init__(self) -> None:
        self._times: deque[float] = deque(maxlen=MAX_LINES_PER_MINUTE)
        self._num_held_back = 0

    def export(self, record: Record) -> None:
        """Log an event; other records are ignored."""
        if not isinstance(record, Event) or record.severity not in _LEVELS:
            return
        if self._is_too_soon(record.time_unix_seconds):
            self._num_held_back += 1
            return
        self._times.append(record.time_unix_seconds)
        held_back = f" ({self._num_held_back} events before this one were held back)" if self._num_held_back else ""
        self._num_held_back = 0
        _logger.log(_LEVELS[record.severity], "%s%s", _line(record), held_back)

    def flush(self) -> None:
        """Do nothing: lines are written as they come."""

    def close(self) -> None:
        """Say how many events were held back at the end, if any."""
        if self._num_held_back:
            _logger.warning("loopscope: %d more events were held back", self._num_held_back)
        self._num_held_back = 0

    def _is_too_soon(self, time_unix_seconds: float) -> bool:
        # abs: a clock that was set back must not silence us until it has caught up.
        is_full = len(self._times) == MAX_LINES_PER_MINUTE
        return is_full and abs(time_unix_seconds - self._times[0]) < 60.0


def create(settings: Mapping[str, object]) -> Exporter:
    """Return a log exporter; no setting is read."""
    return LogExporter()


def _line(event: Event) -> str:
    where = f" in {event.layer}" if event.layer else f" at {event.site}" if event.site else ""
    text = f"loopscope: {event.kind} at step {event.step}{where}: {event.message} {event.remedy}"
    return " ".join(text.split())
