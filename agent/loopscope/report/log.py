"""A log as a report reads it: its entries one after the other, what could not be read, and errors in plain words."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ..errors import SettingError
from .humanise import count

__all__ = ["Entry", "Log", "columns", "real"]

Entry = dict[str, Any]
"""One line of the log (docs/jsonl.md)."""

_READER = "loopscope_exporters.jsonl"
"""The format has one reader, beside its writer. It is found by name, as the agent finds its exporters: no file of
`loopscope` imports from `loopscope_exporters`."""
_KEYS: Mapping[str, frozenset[str]] = {
    "run": frozenset({"run", "agent"}),
    "step": frozenset({"run", "agent", "step"}),
    "epoch": frozenset({"run", "agent", "epoch", "first_step", "last_step", "num_steps"}),
    "event": frozenset({"run", "agent", "kind", "severity", "step", "message"}),
    "activity": frozenset({"run", "agent", "counters"}),
}
"""Types of entries, and what each has in every version of the format."""
_ALLOWED = "a log that loopscope.attach(jsonl=PATH) has written"
_PROGRESS_EVERY = 2_000


class Log:
    """Iterates over the entries of a log and its rotated files, oldest first; may be iterated over again.

    After an iteration the counts say what was not read. `progress` is told the number of lines now and then.
    Raises SettingError, naming the path, what is allowed and the remedy: at once where there is no such file, at the
    end where nothing in it was of loopscope.
    """

    def __init__(self, path: Path, progress: Callable[[int], None] | None = None) -> None:
        self.path = path
        self.num_entries = 0
        self.num_cut_lines = 0
        self.num_dropped_lines = 0
        self.num_unknown_lines = 0
        self._progress = progress or (lambda _: None)
        if not path.is_file():
            found = "It is a directory: name a file in it." if path.is_dir() else "There is no such file."
            raise self.wrong(found)

    def __iter__(self) -> Iterator[Entry]:
        """Read from the start."""
        self.num_entries = self.num_dropped_lines = self.num_unknown_lines = self.num_cut_lines = 0
        reader = importlib.import_module(_READER).read(self.path)
        objects = iter(reader)
        while (entry := self._next(objects)) is not None:
            keys = _KEYS.get(str(entry.get("type")))
            if keys is None and "version" in entry:
                continue  # of a type that needs no reader, or that a later loopscope writes
            if keys is None or not keys <= entry.keys():
                self.num_unknown_lines += 1
                continue
            self.num_entries += 1
            num_dropped = entry.get("num_dropped_lines")
            self.num_dropped_lines += num_dropped if isinstance(num_dropped, int) else 0
            if self.num_entries % _PROGRESS_EVERY == 0:
                self._progress(self.num_entries)
            yield entry
        self.num_cut_lines = reader.num_cut_lines
        if not self.num_entries:
            raise self.wrong(self._why_nothing())

    def reject(self) -> None:
        """Count the latest entry as a line that is not of loopscope: it lacks more than the log can see."""
        self.num_entries -= 1
        self.num_unknown_lines += 1

    @property
    def num_bytes(self) -> int:
        """Size of all of its files, as they are now."""
        return sum(path.stat().st_size for path in self.files())

    def notes(self) -> list[str]:
        """Return in words what an iteration could not read."""
        notes = []
        if self.num_cut_lines:
            notes.append(f"{_lines(self.num_cut_lines)} cut, as when a run is killed, and could not be read.")
        if self.num_dropped_lines:
            notes.append(f"{_lines(self.num_dropped_lines)} given up while the disk was full.")
        if self.num_unknown_lines:
            notes.append(f"{_lines(self.num_unknown_lines)} not of loopscope.")
        return notes

    def files(self) -> list[Path]:
        """Return the files that belong to it, the current one first."""
        paths = [self.path]
        while (rotated := self.path.with_name(f"{self.path.name}.{len(paths)}")).exists():
            paths.append(rotated)
        return paths

    def _next(self, objects: Iterator[Entry]) -> Entry | None:
        try:
            return next(objects, None)
        except OSError as fault:
            raise self.wrong(f"It cannot be read ({fault.strerror}).") from fault
        except ValueError as fault:  # a version of the format that is newer than this reader
            raise self.wrong(f"{str(fault).capitalize()}.") from fault

    def _why_nothing(self) -> str:
        if self.num_cut_lines or self.num_unknown_lines:
            return "None of its lines is an entry of such a log."
        return "It is empty: its run ended before the first flush, or wrote elsewhere."

    def wrong(self, remedy: str) -> SettingError:
        """Return the error of a log that cannot be used, with what is to be done."""
        return SettingError("LOG", str(self.path), allowed=_ALLOWED, remedy=remedy)


def _lines(size: int) -> str:
    return f"{count(size)} line was" if size == 1 else f"{count(size)} lines were"


def real(value: object) -> float | None:
    """Return a number of the log, where "NaN" and "Infinity" are texts and null is not known."""
    if isinstance(value, int | float | str):
        try:
            return float(value)
        except ValueError:
            return None
    return None


def columns(values: object) -> list[float]:
    """Return a column of the log as floats, what is not known as NaN."""
    if not isinstance(values, list):
        return []
    return [math.nan if (number := real(value)) is None else number for value in values]
