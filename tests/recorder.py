"""A worker that gets made-up reports and notes, and writes a log of them."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from tests.builders import TIME, run_info, self_report
from tests.frames import step_frame

from loopscope.detectors import default_detectors
from loopscope.frames import Notes, StepFrame
from loopscope.guard import Guard
from loopscope.notes import Note
from loopscope.pipeline import Pipeline
from loopscope.records import Event, Record, RunInfo, StepReport
from loopscope_exporters.jsonl import JsonlExporter

__all__ = ["Recorder"]


class Recorder:
    """A worker that gets made-up reports and notes, and writes a log; keeps what it told."""

    name = "recorder"

    def __init__(self, path: Path, info: RunInfo | None = None, *detectors: Any) -> None:
        self.told: list[Event] = []
        self._reports: list[StepReport] = []
        self._info = info or run_info()
        self._pipeline = Pipeline(
            self._info,
            [*default_detectors(), *detectors],
            [self, JsonlExporter(path)],
            Guard(limit=1, strict=not detectors),
            window_steps=50,
            report_self=self_report,
            read_memory=lambda: 0,
            breathe=lambda: None,
        )
        self._pipeline._assembler = self  # type: ignore[assignment] # reports are known
        self._pipeline.start()

    def step(self, report: StepReport, *notes: Note) -> None:
        """Take a step whose report is known."""
        report = dataclasses.replace(report, run=self._info.run, agent=self._info.agent)
        frame = step_frame(len(self._reports))
        self._reports.append(report)
        self._pipeline.take(dataclasses.replace(frame, optimizer=report.optimizer, notes=notes))
        self._pipeline._work()

    def report(self, frame: StepFrame) -> StepReport:
        """Return the report of a frame, as the assembler would."""
        return self._reports[frame.epoch]

    def between(self, seconds: float, *notes: Note) -> None:
        """Take what is noted outside the steps, at a time of its own."""
        self._pipeline.take(Notes(notes=notes, time_unix_seconds=TIME + seconds))

    def end(self) -> list[Event]:
        """End the run; return what was told of it."""
        self._pipeline.tick()
        self._pipeline.close()
        return self.told

    def export(self, record: Record) -> None:
        """Keep an event."""
        if isinstance(record, Event):
            self.told.append(record)

    def flush(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""
