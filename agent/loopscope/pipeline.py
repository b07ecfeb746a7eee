"""Pipeline: frames become reports, detectors see them, exporters get them; each part behind its own guard."""

from __future__ import annotations

import dataclasses
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence

from .activity import Activity, Moment
from .assembly import Assembler, with_notes
from .delivery import Delivery
from .epochs import EpochAggregator
from .frames import EpochMark, Frame, Notes, StepFrame
from .guard import Guard, Site
from .judging import BATCH_REPORTS, Judge, Verdict, disabled
from .notes import Note, PauseNote
from .protocols import Detector, Exporter
from .records import (
    EpochReport,
    Event,
    HookCount,
    HookSilence,
    NonfiniteOrigin,
    RunInfo,
    SelfReport,
    StepReport,
)

__all__ = ["Pipeline"]

_SELF_REPORT_SECONDS = 2.0
_MEMORY_SECONDS = 0.05
_BATCH_SECONDS = 1e-3
"""Reports are made until there are BATCH_REPORTS, or for so long, and then judged and sent one stage after the other.
Those that take longer to make go one by one.
"""
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
        breathe: Callable[[], None],
    ) -> None:
        self._info, self._guard, self._report_self, self._read_memory = info, guard, report_self, read_memory
        self._assembler = Assembler(info.run, info.agent, info.rank, info.initial_step)
        self._judge = Judge(info, detectors, guard, breathe)
        self._delivery = Delivery(exporters, guard, breathe)
        self._readback, self._epochs_site = guard.at("readback"), guard.at("epochs")
        self._activity, self._activity_site = Activity(info), guard.at("activity")
        self._window_steps = window_steps
        self._epochs: dict[str | None, EpochAggregator] = {}
        self._lost: dict[str | None, StepFrame] = {}
        """The latest frame that could not be made a report; the next one of its optimizer takes its counts over."""
        self._waiting: deque[tuple[StepReport, Sequence[Note]]] = deque()
        """Reports that are not judged yet."""
        self._batch_end_seconds = 0.0
        self._kept: deque[Note] = deque(maxlen=_MAX_KEPT)
        """What was noted in the middle of a step: it belongs to the report of that step."""
        self._latest: StepReport | None = None
        self._announced: set[str] = set()
        self._self_seconds = self._memory_seconds = 0.0
        self._has_news = True
        self.first_step_seconds: float | None = None
        self.last_step_seconds: float | None = None
        self.is_closed = False

    def start(self) -> None:
        """Give the exporters their first record."""
        self._delivery.put(self._info)
        self._tell_self()
        self._delivery.flush()

    def take(self, frame: Frame) -> None:
        """Take one frame in; what comes of it is sent with the frames that follow, or at the next `tick`."""
        self._has_news = True
        if isinstance(frame, StepFrame):
            self._take_step(frame)
            return
        try:
            self._work()
        finally:
            if isinstance(frame, EpochMark):
                self._end_epochs(frame)
            else:
                self._take_notes(frame)

    def tick(self) -> None:
        """Send and flush what this batch of frames brought, and every two seconds or so say how we are."""
        self._work()
        now_seconds = time.monotonic()
        if now_seconds - self._self_seconds >= _SELF_REPORT_SECONDS:
            self._self_seconds = now_seconds
            self._announce_disabled()
            self._tell_self()
            self._tell_activity()
            self._has_news = True
        if self._has_news:
            self._has_news = False
            self._delivery.flush()

    def close(self) -> None:
        """Send the last word and close the exporters; a second call does nothing."""
        if self.is_closed:
            return
        self.is_closed = True
        self._work()
        self._announce_disabled()
        self._tell_activity()
        self._tell_self()
        self._delivery.close()

    def abandon(self) -> None:
        """Close the exporters in place of a worker that hangs, but the one that it hangs in; any thread."""
        self.is_closed = True
        self._delivery.abandon()

    def _take_step(self, frame: StepFrame) -> None:
        if not self._waiting:
            self._batch_end_seconds = time.monotonic() + _BATCH_SECONDS
        report = self._assemble(frame)
        if report is not None:
            self._waiting.append((report, frame.notes))
            if len(self._waiting) >= BATCH_REPORTS or time.monotonic() > self._batch_end_seconds:
                self._work()

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

    def _work(self) -> None:
        """Judge the reports that wait, and send what comes of them."""
        while self._waiting:
            self._judge.judge_all(*self._next_batch(), self._conclude)
        self._delivery.send()

    def _next_batch(self) -> tuple[list[StepReport], list[Sequence[Event]]]:
        """Take out what waits, up to the end of a window, whose own report is judged before the next step's."""
        reports: list[StepReport] = []
        noted: list[Sequence[Event]] = []
        left = {optimizer: aggregator.num_steps_left for optimizer, aggregator in self._epochs.items()}
        while self._waiting:
            report, events = self._complete(*self._waiting.popleft())
            reports.append(report)
            noted.append(events)
            left[report.optimizer] = left.get(report.optimizer, self._window_steps) - report.num_steps
            if left[report.optimizer] <= 0:
                break
        return reports, noted

    def _complete(self, report: StepReport, notes: Sequence[Note]) -> tuple[StepReport, Sequence[Event]]:
        """Return the report with what was noted of its step, and the events of that."""
        self.first_step_seconds = self.first_step_seconds or report.time_unix_seconds
        self.last_step_seconds = report.time_unix_seconds
        noted: Sequence[Event] = ()
        if self._kept:
            notes = (*self._kept, *notes)
            self._kept.clear()
        if not self._waiting and time.monotonic() - self._memory_seconds >= _MEMORY_SECONDS:
            self._memory_seconds = time.monotonic()
            with self._guard.at("self_report"):
                report = dataclasses.replace(report, memory_bytes=self._read_memory())
        if notes:
            noted = self._tell_notes(notes, Moment(report.step, report.epoch, report.time_unix_seconds))
            report = with_notes(report, notes, noted)
        return report, noted

    def _conclude(self, report: StepReport, verdict: Verdict) -> None:
        if verdict.events:
            report = dataclasses.replace(report, events=tuple(verdict.events))
        self._latest = report
        self._delivery.put(report)
        for event in verdict.events:
            self._delivery.put(event)
        if verdict.health is not None:
            self._delivery.put(verdict.health)
        if self._epochs_site.is_enabled:
            with self._epochs_site:
                aggregator = self._epochs.get(report.optimizer)
                if aggregator is None:
                    aggregator = self._epochs[report.optimizer] = EpochAggregator(self._window_steps)
                self._take_epochs([aggregator.add(report, verdict.layers.get(report.optimizer, {}))])

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
                self._delivery.put(report)
                for event in self._judge.judge(report).events:
                    self._delivery.put(event)

    def _take_notes(self, notes: Notes) -> None:
        """Take in what was noted outside the steps: its events bear the number of the step to come."""
        latest = self._latest
        step = self._info.initial_step if latest is None else latest.step + (latest.skipped is None)
        epoch = self._info.initial_epoch if latest is None else latest.epoch
        moment = Moment(step, epoch, notes.time_unix_seconds)
        for event in self._judge.group(self._tell_notes(notes.notes, moment)):
            self._delivery.put(event)
        self._kept += (note for note in notes.notes if isinstance(note, _OF_STEPS))
        self._tell_activity()

    def _tell_notes(self, notes: Sequence[Note], moment: Moment) -> Sequence[Event]:
        if self._activity_site.is_enabled:
            with self._activity_site:
                return self._activity.take(notes, moment)
        return ()

    def _tell_activity(self) -> None:
        report = self._activity.report(time.time())
        if report is not None:
            self._delivery.put(report)

    def _tell_self(self) -> None:
        site: Site = self._guard.at("self_report")
        if site.is_enabled:
            with site:
                self._delivery.put(self._report_self())

    def _announce_disabled(self) -> None:
        for part in self._guard.disabled():
            if part not in self._announced:
                self._announced.add(part)
                self._delivery.put(disabled(part, self._guard, self._info, self._latest, time.time()))
