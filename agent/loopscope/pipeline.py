"""Pipeline: frames become reports, detectors see them, exporters get them; each part behind its own guard."""

from __future__ import annotations

import dataclasses
import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence

from .activity import Activity, Moment
from .assembly import Assembler
from .epochs import EpochAggregator
from .frames import EpochMark, Frame, Notes, StepFrame
from .guard import Guard, Site
from .judging import Judge
from .notes import AllocatorNote, Note, PauseNote
from .protocols import Detector, Exporter
from .records import (
    EpochReport,
    Event,
    HookCount,
    HookSilence,
    NonfiniteOrigin,
    Record,
    RunInfo,
    SelfReport,
    StepReport,
    SyncCount,
)

__all__ = ["Pipeline"]

_SELF_REPORT_SECONDS = 1.0
_MEMORY_SECONDS = 0.05
_OF_STEPS = (NonfiniteOrigin, PauseNote, HookCount, HookSilence)
"""Notes that tell of a step and are no events by themselves."""
_MAX_KEPT = 64
"""A program that takes no steps pauses again and again."""


class Pipeline:
    """The worker's side of one agent. Not thread-safe: one thread calls `take` and `tick`."""

    def __init__(
        self,
        info: RunInfo,
        detectors: Sequence[Detector],
        exporters: Sequence[Exporter],
        guard: Guard,
        *,
        window_steps: int,
        report_self: Callable[[], SelfReport],
        read_memory: Callable[[], int],
    ) -> None:
        self._info, self._guard, self._report_self, self._read_memory = info, guard, report_self, read_memory
        self._assembler = Assembler(info.run, info.agent, info.rank, info.initial_step)
        self._judge = Judge(info, detectors, guard)
        self._exporters = [(exporter, guard.at(name)) for name, exporter in _named(exporters).items()]
        self._readback, self._epochs_site = guard.at("readback"), guard.at("epochs")
        self._activity, self._activity_site = Activity(info), guard.at("activity")
        self._window_steps = window_steps
        self._epochs: dict[str | None, EpochAggregator] = {}
        self._lost: dict[str | None, StepFrame] = {}
        """The latest frame that could not be made a report; the next one of its optimizer takes its counts over."""
        self._kept: deque[Note] = deque(maxlen=_MAX_KEPT)
        """What was noted in the middle of a step: it belongs to the report of that step."""
        self._latest: StepReport | None = None
        self._announced: set[str] = set()
        self._self_seconds = self._memory_seconds = 0.0
        self._has_news = True
        self.first_step_seconds: float | None = None
        self.last_step_seconds: float | None = None
        self._busy: Exporter | None = None
        """The exporter at work, or the last one that was."""
        self.is_closed = False

    def start(self) -> None:
        """Give the exporters their first record."""
        self._export(self._info)
        self._tell_self()
        self._flush()

    def take(self, frame: Frame) -> None:
        """Take one frame through."""
        self._has_news = True
        if isinstance(frame, EpochMark):
            self._end_epochs(frame)
            return
        if isinstance(frame, Notes):
            self.take_notes(frame)
            return
        report = self._assemble(frame)
        if report is not None:
            self._take_report(report, frame.notes)

    def take_notes(self, notes: Notes) -> None:
        """Take in what was noted outside the steps: its events bear the number of the step to come."""
        latest = self._latest
        step = self._info.initial_step if latest is None else latest.step + (latest.skipped is None)
        epoch = self._info.initial_epoch if latest is None else latest.epoch
        moment = Moment(step, epoch, notes.time_unix_seconds)
        for event in self._judge.group(self._tell_notes(notes.notes, moment)):
            self._export(event)
        self._kept += (note for note in notes.notes if isinstance(note, _OF_STEPS))
        self._tell_activity()
        self._has_news = True

    def tick(self) -> None:
        """Flush what this batch of frames brought, and about once a second say how we are."""
        now_seconds = time.monotonic()
        if now_seconds - self._self_seconds >= _SELF_REPORT_SECONDS:
            self._self_seconds = now_seconds
            self._announce_disabled()
            self._tell_self()
            self._tell_activity()
            self._has_news = True
        if self._has_news:
            self._has_news = False
            self._flush()

    def close(self) -> None:
        """Send the last word and close the exporters; a second call does nothing."""
        if self.is_closed:
            return
        self.is_closed = True
        self._announce_disabled()
        self._tell_activity()
        self._tell_self()
        self._flush()
        for exporter, site in self._exporters:
            self._busy = exporter
            with site:
                exporter.close()

    def abandon(self) -> None:
        """Close the exporters in place of a worker that hangs, but the one that it hangs in; any thread."""
        self.is_closed = True
        for exporter, site in self._exporters:
            if exporter is not self._busy:
                with site:
                    exporter.close()

    def _assemble(self, frame: StepFrame) -> StepReport | None:
        lost = self._lost.pop(frame.optimizer, None)
        if lost is not None:
            frame.take_over(lost)
        try:
            if self._readback.is_enabled:
                with self._readback:
                    return self._assembler.report(frame)
            self._lost[frame.optimizer] = frame
        finally:
            for values in frame.pending():
                values.release()
        return None

    def _take_report(self, report: StepReport, notes: Sequence[Note]) -> None:
        self.first_step_seconds = self.first_step_seconds or report.time_unix_seconds
        self.last_step_seconds = report.time_unix_seconds
        noted: Sequence[Event] = ()
        if self._kept:
            notes = (*self._kept, *notes)
            self._kept.clear()
        if time.monotonic() - self._memory_seconds >= _MEMORY_SECONDS:
            self._memory_seconds = time.monotonic()
            report = dataclasses.replace(report, memory_bytes=self._read_memory())
        if notes:
            noted = self._tell_notes(notes, Moment(report.step, report.epoch, report.time_unix_seconds))
            report = _with_notes(report, notes, noted)
        events = self._judge.judge(report, noted)
        if events:
            report = dataclasses.replace(report, events=tuple(events))
        self._latest = report
        self._export(report)
        for event in events:
            self._export(event)
        for health in self._judge.health(report.step, report.time_unix_seconds):
            self._export(health)
        if self._epochs_site.is_enabled:
            with self._epochs_site:
                aggregator = self._epochs.get(report.optimizer)
                if aggregator is None:
                    aggregator = self._epochs[report.optimizer] = EpochAggregator(self._window_steps)
                self._take_epochs([aggregator.add(report, self._judge.layers.get(report.optimizer, {}))])

    def _end_epochs(self, mark: EpochMark) -> None:
        for aggregator in self._epochs.values():
            with self._epochs_site:
                if mark.is_run_end:
                    self._take_epochs([aggregator.end_run(mark.time_unix_seconds)])
                else:
                    self._take_epochs([aggregator.end_epoch(mark.time_unix_seconds, mark.epoch)])

    def _take_epochs(self, reports: Iterable[EpochReport | None]) -> None:
        for report in reports:
            if report is not None:
                self._export(report)
                for event in self._judge.judge(report):
                    self._export(event)

    def _tell_notes(self, notes: Sequence[Note], moment: Moment) -> Sequence[Event]:
        if self._activity_site.is_enabled:
            with self._activity_site:
                return self._activity.take(notes, moment)
        return ()

    def _tell_activity(self) -> None:
        report = self._activity.report(time.time())
        if report is not None:
            self._export(report)

    def _export(self, record: Record) -> None:
        for exporter, site in self._exporters:
            if site.is_enabled:
                self._busy = exporter
                with site:
                    exporter.export(record)

    def _flush(self) -> None:
        for exporter, site in self._exporters:
            if site.is_enabled:
                self._busy = exporter
                with site:
                    exporter.flush()

    def _tell_self(self) -> None:
        site: Site = self._guard.at("self_report")
        if site.is_enabled:
            with site:
                self._export(self._report_self())

    def _announce_disabled(self) -> None:
        for part in self._guard.disabled():
            if part not in self._announced:
                self._announced.add(part)
                self._export(self._disabled_event(part))

    def _disabled_event(self, part: str) -> Event:
        latest = self._latest
        return Event(
            kind="probe_disabled",
            severity="warning",
            step=latest.step if latest is not None else self._info.initial_step,
            epoch=latest.epoch if latest is not None else self._info.initial_epoch,
            message=f"{part} failed {self._guard.faults().get(part, 0)} times and is switched off; training goes on.",
            remedy="Report the first traceback in the log of `loopscope`, with the versions of torch and loopscope.",
            attributes={"part": part},
            run=self._info.run,
            agent=self._info.agent,
            rank=self._info.rank,
            time_unix_seconds=time.time(),
        )


def _with_notes(report: StepReport, notes: Sequence[Note], noted: Sequence[Event]) -> StepReport:
    syncs = tuple(note for note in notes if isinstance(note, SyncCount))
    found = (note for note in notes if isinstance(note, NonfiniteOrigin))
    origin = next(found, None) if _is_nonfinite(report) else None  # else it is of a loss that is not this loop's
    hooks = tuple(note for note in notes if isinstance(note, HookCount | HookSilence))
    return dataclasses.replace(
        report, syncs=syncs, hooks=hooks, origin=origin, pauses=_pauses(notes), events=tuple(noted)
    )


def _is_nonfinite(report: StepReport) -> bool:
    is_bad_loss = report.loss is not None and not math.isfinite(report.loss)
    return is_bad_loss or (report.gradients is not None and bool(report.gradients.num_nonfinite.any()))


def _pauses(notes: Sequence[Note]) -> dict[str, float]:
    pauses: dict[str, float] = {}
    for note in notes:
        if isinstance(note, PauseNote):
            pauses["garbage_collection"] = pauses.get("garbage_collection", 0.0) + note.seconds
        elif isinstance(note, AllocatorNote) and note.event != "free":
            name = f"allocator_{note.event}"
            pauses[name] = pauses.get(name, 0.0) + note.count
    return pauses


def _named(exporters: Sequence[Exporter]) -> dict[str, Exporter]:
    """Return the exporters by the name of their guard site: two of the same name must not switch each other off."""
    named: dict[str, Exporter] = {}
    for exporter in exporters:
        site, number = f"exporter.{exporter.name}", 2
        while site in named:
            site, number = f"exporter.{exporter.name}-{number}", number + 1
        named[site] = exporter
    return named
