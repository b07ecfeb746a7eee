"""The whole extension surface: what a probe, a detector and an exporter have to do."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, runtime_checkable

from .records import EpochReport, Event, Record, SelfReport, StepReport

__all__ = ["Detector", "Exporter", "Probe"]


@runtime_checkable
class Probe(Protocol):
    """Watches the live loop on the training thread; it owns hooks from `install` until `remove`."""

    name: str

    def install(self) -> None:
        """Put the hooks in place."""

    def remove(self) -> None:
        """Take them out again, exactly; a second call does nothing."""


@runtime_checkable
class Detector(Protocol):
    """Turns reports into events: a state machine without clock, torch or side effects, on the worker thread."""

    name: str

    def see(self, report: StepReport | EpochReport | SelfReport) -> Iterable[Event]:
        """Return the events that this report opens; most of them open none."""


@runtime_checkable
class Exporter(Protocol):
    """Takes records to the outside, on the worker thread; an exception is counted and never reaches the loop."""

    name: str

    def export(self, record: Record) -> None:
        """Take one record; the first is the RunInfo. May buffer until `flush`."""

    def flush(self) -> None:
        """Hand over what is buffered; called after each batch of records, every 0.2 s to 1 s while steps come."""

    def close(self) -> None:
        """Let go of files, sockets and threads; a second call does nothing."""
