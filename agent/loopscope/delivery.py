"""Delivery: records on their way to the exporters, each exporter behind a guard of its own."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from .guard import Guard, Site
from .protocols import Exporter
from .records import Record

__all__ = ["Delivery"]


@dataclass(slots=True, eq=False)
class _Outlet:
    exporter: Exporter
    site: Site
    waiting: deque[Record] = field(default_factory=deque)


class Delivery:
    """The exporters of one agent, and what waits for each. Not thread-safe but for `abandon`: the worker owns it.

    What an exporter fails of is lost to it alone, also where the worker is ended in it: the next one sends the others
    what waits for them. Each gets all that waits before the next one does, so that its code and its state are at hand.
    """

    def __init__(self, exporters: Sequence[Exporter], guard: Guard, breathe: Callable[[], None]) -> None:
        self._outlets = [_Outlet(exporter, guard.at(name)) for name, exporter in _named(exporters).items()]
        self._guard, self._breathe = guard, breathe
        self._is_abandoned = False
        self._busy: _Outlet | None = None
        """The one at work, or the last one that was."""

    def put(self, record: Record) -> None:
        """Have a record wait for the next `send`."""
        for outlet in self._outlets:
            outlet.waiting.append(record)

    def send(self) -> None:
        """Give the exporters what waits, in its order; breathe before each."""
        for outlet in self._outlets:
            self._breathe()
            if self._is_abandoned:
                return
            self._busy = outlet
            self._guard.drain(outlet.site, outlet.exporter.export, outlet.waiting)

    def flush(self) -> None:
        """Send, and have the exporters hand on what they have."""
        self.send()
        for outlet in self._outlets:
            if outlet.site.is_enabled and not self._is_abandoned:
                self._breathe()
                self._busy = outlet
                with outlet.site:
                    outlet.exporter.flush()

    def close(self) -> None:
        """Send, flush and close the exporters, those that are switched off included."""
        self.flush()
        for outlet in self._outlets:
            self._busy = outlet
            with outlet.site:
                outlet.exporter.close()

    def abandon(self) -> None:
        """Give the exporters what waits and close them, but for the one that the worker hangs in; any thread.

        The last ones first, which are ours: what hangs in one of the user's may hang in another. A worker that comes
        back meanwhile gives nothing to anybody any more.
        """
        self._is_abandoned = True
        for outlet in reversed(self._outlets):
            if outlet is not self._busy:
                with outlet.site:
                    self._guard.drain(outlet.site, outlet.exporter.export, outlet.waiting)
                    outlet.exporter.close()


def _named(exporters: Sequence[Exporter]) -> dict[str, Exporter]:
    """Return the exporters by the name of their guard site: two of the same name must not switch each other off."""
    named: dict[str, Exporter] = {}
    for exporter in exporters:
        site, number = f"exporter.{exporter.name}", 2
        while site in named:
            site, number = f"exporter.{exporter.name}-{number}", number + 1
        named[site] = exporter
    return named
