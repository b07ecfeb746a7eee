"""Activity: takes notes, keeps the counters, and says what is worth an event."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from ..notes import AllocatorNote, CompileNote, InplaceNote, NondeterminismNote, Note, PauseNote
from ..records import ActivityReport, Event, HookCount, HookSilence, NonfiniteOrigin, RunInfo, SyncCount
from .compiles import CompileJournal
from .counters import Counters
from .determinism import DeterminismJournal
from .findings import Finding
from .inplace import InplaceJournal
from .syncs import SyncJournal

__all__ = ["Activity", "Moment"]


class Moment(NamedTuple):
    """When the notes were taken: the step under way, or the one that is to come."""

    step: int
    epoch: int
    time_unix_seconds: float


class Activity:
    """The counters of one agent; not thread-safe, the worker owns it."""

    def __init__(self, info: RunInfo) -> None:
        self._info = info
        self._counters = Counters()
        self._syncs, self._compiles, self._determinism = SyncJournal(), CompileJournal(), DeterminismJournal()
        self._inplace = InplaceJournal()
        self._num_told = 0
        self._step = info.initial_step

    def take(self, notes: Iterable[Note], moment: Moment) -> list[Event]:
        """Count the notes in and return the events they come to, in their order."""
        self._step = moment.step
        return [self._event(finding, moment) for note in notes for finding in self._take(note)]

    def report(self, time_unix_seconds: float) -> ActivityReport | None:
        """Return all counters, None where none has changed since the last time."""
        if self._counters.num_changes == self._num_told:
            return None
        self._num_told = self._counters.num_changes
        return ActivityReport(
            run=self._info.run,
            agent=self._info.agent,
            rank=self._info.rank,
            time_unix_seconds=time_unix_seconds,
            step=self._step,
            counters=self._counters.snapshot(),
            num_left_out=self._counters.num_left_out,
        )

    def _event(self, finding: Finding, moment: Moment) -> Event:
        return Event(
            kind=finding.kind,
            severity=finding.severity,
            step=moment.step,
            epoch=moment.epoch,
            message=finding.message,
            remedy=finding.remedy,
            site=finding.site,
            value=finding.value,
            threshold=finding.threshold,
            attributes=finding.attributes,
            run=self._info.run,
            agent=self._info.agent,
            rank=self._info.rank,
            time_unix_seconds=moment.time_unix_seconds,
        )

    def _take(self, note: Note) -> tuple[Finding, ...]:
        if isinstance(note, SyncCount):
            return self._syncs.take(note, self._counters)
        if isinstance(note, NonfiniteOrigin | PauseNote | HookCount | HookSilence):
            return ()  # part of the step's report, which a detector judges
        if isinstance(note, NondeterminismNote):
            return self._determinism.take(note, self._counters)
        if isinstance(note, InplaceNote):
            return self._inplace.take(note, self._counters)
        if isinstance(note, CompileNote):
            found = self._compiles.take(note, self._counters)
            return () if found is None else (found,)
        assert isinstance(note, AllocatorNote)
        self._syncs.take_allocator(note, self._counters)
        return ()
