"""Delivery: records on their way to the exporters, each exporter behind a guard of its own."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from .guard import Guard
from .protocols import Exporter
from .records import Record

__all__ = ["Delivery"]


class Delivery:
    """The exporters of one agent and what waits for them. Not thread-safe but for `abandon`: the worker owns it.

    What an exporter fails of is lost to it alone. Where the worker itself is ended in one, the record is lost to those
    after it as well, and the next worker sends what waits.
    """

    def __init__(self, exporters: Sequence[Exporter], guard: Guard, breathe: Callable[[], None]) -> None:
        self._exporters = [(exporter, guard.at(name)) for name, exporter in _named(exporters).items()]
        self._breathe = breathe
        self._waiting: deque[Record] = deque()
        self._busy: Exporter | None = None
        """The exporter at work, or the last one that was."""

    def put(self, record: Record) -> None:
        """Have a record wait for the next `send`."""
        self._waiting.append(record)

    def send(self) -> None:
        """Give the exporters what waits, in its order."""
        while self._waiting:
            record = self._waiting.popleft()
            for exporter, site in self._exporters:
                if site.is_enabled:
                    self._busy = exporter
                    with site:
                        exporter.export(record)

    def flush(self) -> None:
        """Send, and have the exporters hand on what they have."""
        self.send()
        for exporter, site in self._exporters:
            if site.is_enabled:
                self._breathe()
                self._busy = exporter
                with site:
                    exporter.flush()

    def close(self) -> None:
        """Send, flush and close the exporters, those that are switched off included."""
        self.flush()
        for exporter, site in self._exporters:
            self._busy = exporter
            with site:
                exporter.close()

    def abandon(self) -> None:
        """Close the exporters but the one that the worker hangs in; any thread."""
        for exporter, site in self._exporters:
            if exporter is not self._busy:
                with site:
                    exporter.close()


def _named(exporters: Sequence[Exporter]) -> dict[str, Exporter]:
    """Return the exporters by the name of their guard site: two of the same name must not switch each other off."""
    named: dict[str, Exporter] = {}
    for exporter in exporters:
        site, number = f"exporter.{exporter.name}", 2
        while site in named:
            site, number = f"exporter.{exporter.name}-{number}", number + 1
        named[site] = exporter
    return named
