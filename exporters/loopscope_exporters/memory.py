"""Memory: the latest records kept in the process, for `agent.latest` and its like, and for tests."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping

from loopscope.protocols import Exporter
from loopscope.records import ActivityReport, EpochReport, Event, HealthReport, Record, RunInfo, SelfReport, StepReport

__all__ = ["MemoryExporter", "create"]


class MemoryExporter:
    """Keeps the last `history` epoch reports, events and other records, and the last `num_steps` step reports.

    Every property is a snapshot that can be read on any thread. A sampled step report of 2,000 parameters takes
    0.2 MB, so that an exporter that lives as long as the training keeps few steps; without `num_steps` it keeps
    `history` of them.
    """

    name = "memory"

    def __init__(self, history: int = 1_000, *, num_steps: int | None = None) -> None:
        self._lock = threading.Lock()
        self._steps: deque[tuple[int, StepReport]] = deque(maxlen=history if num_steps is None else num_steps)
        self._others: deque[tuple[int, Record]] = deque(maxlen=history)
        self._epochs: deque[EpochReport] = deque(maxlen=history)
        self._events: deque[Event] = deque(maxlen=history)
        self._num_records = 0
        self._run: RunInfo | None = None
        self._latest: StepReport | None = None
        self._latest_self: SelfReport | None = None
        self._latest_activity: ActivityReport | None = None
        self._latest_health: HealthReport | None = None

    @property
    def records(self) -> tuple[Record, ...]:
        """All records that are kept, in the order of their arrival."""
        with self._lock:
            numbered: list[tuple[int, Record]] = [*self._steps, *self._others]
        return tuple(record for _, record in sorted(numbered, key=lambda entry: entry[0]))

    @property
    def steps(self) -> tuple[StepReport, ...]:
        """Step reports, oldest first, skipped steps included."""
        with self._lock:
            return tuple(report for _, report in self._steps)

    @property
    def epochs(self) -> tuple[EpochReport, ...]:
        """Epoch and window reports, oldest first."""
        with self._lock:
            return tuple(self._epochs)

    @property
    def events(self) -> tuple[Event, ...]:
        """Events of every severity, oldest first."""
        with self._lock:
            return tuple(self._events)

    @property
    def run(self) -> RunInfo | None:
        """What was said at attach, None before."""
        return self._run

    @property
    def latest(self) -> StepReport | None:
        """The latest step report, None before the first."""
        return self._latest

    @property
    def latest_self(self) -> SelfReport | None:
        """The latest report of the agent on itself, None before the first."""
        return self._latest_self

    @property
    def latest_activity(self) -> ActivityReport | None:
        """The latest counters of syncs and compilations, None before there was any."""
        return self._latest_activity

    @property
    def latest_health(self) -> HealthReport | None:
        """What is open since the last change, None while nothing ever was."""
        return self._latest_health

    def export(self, record: Record) -> None:
        """Keep a record."""
        with self._lock:
            self._num_records += 1
            if isinstance(record, StepReport):
                self._latest = record
                self._steps.append((self._num_records, record))
                return
            self._others.append((self._num_records, record))
            if isinstance(record, EpochReport):
                self._epochs.append(record)
            elif isinstance(record, Event):
                self._events.append(record)
            elif isinstance(record, SelfReport):
                self._latest_self = record
            elif isinstance(record, ActivityReport):
                self._latest_activity = record
            elif isinstance(record, HealthReport):
                self._latest_health = record
            else:
                self._run = record

    def flush(self) -> None:
        """Do nothing: what was exported can be read at once."""

    def close(self) -> None:
        """Do nothing: what was kept can still be read."""


def create(settings: Mapping[str, object]) -> Exporter:
    """Return a memory exporter for a Config's fields; `history` is read."""
    history = settings["history"]
    assert isinstance(history, int), "checked by Config"
    return MemoryExporter(history)
