"""Actions: what is done about an event, as the user asked: a callback, and the wish to stop.

Both are like exporters, on the worker thread, each behind a guard of its own: a callback that raises until it is
switched off does not take the wish to stop with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from .catalog import EVENT_KINDS, SEVERITIES
from .errors import SettingError
from .records import Event, Record

__all__ = ["Callback", "StopWish"]


class Callback:
    """Calls a function of the user's with every event; what it raises is counted and logged once, training goes on."""

    name = "actions"

    def __init__(self, on_event: Callable[[Event], object]) -> None:
        self._on_event = on_event

    def export(self, record: Record) -> None:
        """Pass an event on."""
        if isinstance(record, Event):
            self._on_event(record)

    def flush(self) -> None:
        """Do nothing: events are passed on as they come."""

    def close(self) -> None:
        """Do nothing."""


class StopWish:
    """Remembers whether an event of a severity or kind in `stop_on` has happened."""

    name = "stop"

    def __init__(self, stop_on: Iterable[str]) -> None:
        self._stop_on = frozenset(stop_on)
        known = {*SEVERITIES, *(kind.name for kind in EVENT_KINDS)}
        for name in sorted(self._stop_on - known):
            raise SettingError(
                "stop_on",
                name,
                allowed=f"severities ({', '.join(SEVERITIES)}) and kinds of events",
                remedy="docs/metrics.md lists every kind.",
            )
        self.should_stop = False
        """Whether an event of `stop_on` has happened; it stays so."""

    def export(self, record: Record) -> None:
        """Look at an event."""
        if isinstance(record, Event):
            self.should_stop |= record.severity in self._stop_on or record.kind in self._stop_on

    def flush(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""
