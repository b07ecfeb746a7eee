"""What is kept of one agent for the pages, and the agents of a server; added to on the worker thread, read on any."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from typing import Generic, TypeVar

from loopscope.catalog import MAX_OPTIMIZERS
from loopscope.records import EpochReport, Event, Record, StepReport

from .history import History, Slice

__all__ = ["AgentState", "Agents", "Numbered", "Recent"]

MAX_EVENTS = 300
MAX_EPOCHS = 500

_T = TypeVar("_T")
_R = TypeVar("_R", bound=Record)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recent(Generic[_T]):
    """Entries that came one after the other: the last of them is number `next` - 1."""

    entries: tuple[_T, ...]
    next: int


class Numbered(Generic[_T]):
    """The last so many of what came, numbered from 0 on, so that a reader can ask for what is new to it."""

    def __init__(self, size: int) -> None:
        self._kept: deque[_T] = deque(maxlen=size)
        self._num = 0

    def append(self, entry: _T) -> None:
        """Take in one more."""
        self._kept.append(entry)
        self._num += 1

    def since(self, number: int) -> Recent[_T]:
        """Return what is kept from `number` on, all of it where there cannot have been such a number yet."""
        oldest = self._num - len(self._kept)
        start = max(number - oldest, 0) if number <= self._num else 0
        return Recent(entries=tuple(self._kept)[start:], next=self._num)


class AgentState:
    """What is known of one agent: the latest records, the last events and epochs, a history of each optimizer."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._latest: dict[type[object], Record] = {}
        self._steps: dict[str | None, StepReport] = {}
        self._samples: dict[str | None, StepReport] = {}
        self._histories: dict[str | None, History] = {}
        self._events: Numbered[Event] = Numbered(MAX_EVENTS)
        self._epochs: Numbered[EpochReport] = Numbered(MAX_EPOCHS)

    def add(self, record: Record) -> None:
        """Keep a reference to the record; of optimizers the first MAX_OPTIMIZERS have a history."""
        with self._lock:
            self._latest[type(record)] = record
            if isinstance(record, StepReport):
                self._add_step(record)
            elif isinstance(record, EpochReport):
                self._epochs.append(record)
            elif isinstance(record, Event):
                self._events.append(record)

    def latest(self, kind: type[_R]) -> _R | None:
        """Return the latest record of a type, of all optimizers; None where there was none yet."""
        with self._lock:
            record = self._latest.get(kind)
        return record if isinstance(record, kind) else None

    @property
    def name(self) -> str | None:
        """Name of the agent, None before its first record."""
        with self._lock:
            return next((record.agent for record in self._latest.values()), None)

    @property
    def optimizers(self) -> tuple[str | None, ...]:
        """Those that have stepped, in the order of their first step; None is the only one of its agent."""
        with self._lock:
            return tuple(self._histories)

    def step(self, optimizer: str | None) -> tuple[StepReport | None, StepReport | None]:
        """Return the optimizer's latest step, and its latest one with a GradientSample."""
        with self._lock:
            return self._steps.get(optimizer), self._samples.get(optimizer)

    def history(self, optimizer: str | None, width: int, first: int) -> Slice | None:
        """Return what is new to a reader that knows the spans below `first` of that width; see History.since."""
        with self._lock:
            history = self._histories.get(optimizer)
            return None if history is None else history.since(width, first)

    def events(self, number: int) -> Recent[Event]:
        """Return the events from that number on."""
        with self._lock:
            return self._events.since(number)

    def epochs(self, number: int) -> Recent[EpochReport]:
        """Return the epochs and windows from that number on, of all optimizers."""
        with self._lock:
            return self._epochs.since(number)

    def _add_step(self, report: StepReport) -> None:
        history = self._histories.get(report.optimizer)
        if history is None:
            if len(self._histories) >= MAX_OPTIMIZERS:
                return
            history = self._histories[report.optimizer] = History()
        history.add(report)
        self._steps[report.optimizer] = report
        if report.gradients is not None and report.gradients.sample is not None:
            self._samples[report.optimizer] = report


class Agents:
    """The agents of one server, in the order in which they came."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._states: list[AgentState] = []

    def add(self, state: AgentState) -> None:
        """Show one more."""
        with self._lock:
            self._states.append(state)

    def remove(self, state: AgentState) -> None:
        """Show one no longer."""
        with self._lock:
            self._states.remove(state)

    def named(self) -> dict[str, AgentState]:
        """Return those that have said anything by name."""
        with self._lock:
            states = list(self._states)
        return {name: state for state in states if (name := state.name) is not None}
