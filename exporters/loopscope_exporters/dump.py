"""Dump: the last steps before an anomaly, with all their parameters, in a file of its own."""

from __future__ import annotations

import logging
import os
from collections import deque
from pathlib import Path

from loopscope.records import Event, Record, RunInfo, StepReport

from .encoding import encode

__all__ = ["MAX_DUMPS", "DumpExporter"]

MAX_DUMPS = 16
"""Files of one agent: a run that never gets well must not fill the disk."""
_SEVERITIES = ("warning", "critical")
_logger = logging.getLogger("loopscope")


class DumpExporter:
    """Keeps the last `num_steps` step reports, and writes them down when an incident begins.

    A file is a JSONL log as docs/jsonl.md describes: `read` and `loopscope report` take it. It is written beside its
    name and renamed, so that it is whole or not there. Memory: about 1 KB a step and 20 parameters.
    """

    name = "dump"

    def __init__(self, directory: Path, num_steps: int) -> None:
        self._directory = directory
        self._steps: deque[Record] = deque(maxlen=num_steps)
        self._run: RunInfo | None = None
        self._pid = os.getpid()
        self.num_dumps = 0

    def export(self, record: Record) -> None:
        """Keep a step; write a file where an event is the first cause of an incident."""
        if isinstance(record, RunInfo):
            self._run = record
        elif isinstance(record, Event):
            if record.severity in _SEVERITIES and record.first_cause:
                self._dump(record)
        elif isinstance(record, StepReport):
            self._steps.append(record)

    def flush(self) -> None:
        """Do nothing: a dump is written at once."""

    def close(self) -> None:
        """Let go of what is kept."""
        self._steps.clear()

    def _dump(self, event: Event) -> None:
        if self._run is None or self.num_dumps >= MAX_DUMPS or os.getpid() != self._pid:
            return
        rank = "" if event.rank is None else f"-rank{event.rank}"
        optimizer = "" if event.optimizer is None else f"-{event.optimizer}"
        name = f"{self._run.run}-{event.agent}{rank}{optimizer}-step{event.step}-{event.kind}.jsonl"
        path = self._directory / "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in name)
        self._directory.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".part")
        try:
            with unfinished.open("w", encoding="ascii") as file:
                file.writelines(f"{encode(record)}\n" for record in (self._run, *self._steps, event))
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)  # what a full disk has cut short
        self.num_dumps += 1
        _logger.warning("loopscope: the %d steps before %s are in %s", len(self._steps), event.kind, path)
