"""JSONL: the flight recorder, every step with all its parameters and every event as one JSON object a line.

The format is described in docs/jsonl.md.
"""

from __future__ import annotations

import functools
import json
import os
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

import numpy as np

from loopscope.protocols import Exporter
from loopscope.records import GradientTable, Record, RunInfo, SelfReport, StepReport

from .encoding import VERSION, encode
from .rotating import RotatingFile, rotated_paths

__all__ = ["JsonlExporter", "Reader", "create", "read"]

MAX_PENDING = 256
"""Records that wait for a full disk at the most; beyond that the oldest are dropped and counted."""
FLUSH_AT = 4
"""Pending records at which `export` flushes by itself: a line takes 0.1 ms, for which a loop of short steps waits."""
MAX_RETRY_SECONDS = 64.0
_LONG_DIGITS = re.compile(rb"[0-9]{19}")
_BUFFER_BYTES = 2**16
"""Lines are some kB: with the usual buffer most would be put together from two."""


class JsonlExporter:
    """Appends records to a log of at most `num_files` files of `max_bytes`; self reports are left out.

    Lines are written at `flush`, whole and unbuffered, so that what was flushed survives the death of the process
    and a forked child writes nothing. A file exceeds `max_bytes` only by a single line that is longer than that: it
    gets a file of its own, after the run's line. While the disk is full `flush` raises OSError, tries again after 1 s
    of the records' time, 2 s, 4 s and so on up to 64 s, and keeps the latest MAX_PENDING records; what was dropped is
    counted in `num_dropped` and stated in the next line.
    """

    name = "jsonl"

    def __init__(self, path: str | os.PathLike[str], max_bytes: int = 64 * 1024 * 1024, num_files: int = 4) -> None:
        self._file = RotatingFile(Path(path), max_bytes=max_bytes, num_files=num_files)
        self._pid = os.getpid()
        self._is_closed = False
        self._pending: deque[Record] = deque()
        self._run: RunInfo | None = None
        self._needs_run = False
        self._is_fresh = self._file.is_empty
        self._tables: dict[tuple[object, ...], GradientTable] = {}
        self._num_unstated = 0
        self.num_dropped = 0
        self._time = 0.0
        self._retry_time = 0.0
        self._retry_seconds = 1.0

    def export(self, record: Record) -> None:
        """Queue a record for the next flush."""
        if self._is_closed or isinstance(record, SelfReport):
            return
        self._time = max(self._time, record.time_unix_seconds)
        if isinstance(record, RunInfo):
            self._run, self._needs_run = record, True
            return
        if len(self._pending) >= MAX_PENDING:
            self._pending.popleft()
            self.num_dropped += 1
            self._num_unstated += 1
        self._pending.append(record)
        if len(self._pending) >= FLUSH_AT:
            self.flush()

    def flush(self) -> None:
        """Write what is pending; raises the OSError of a disk that is full."""
        if not self._is_closed and self._time >= self._retry_time and os.getpid() == self._pid:
            self._flush()

    def close(self) -> None:
        """Write what is pending and let go of the file; a second call does nothing."""
        if self._is_closed:
            return
        if os.getpid() != self._pid:
            self.close_in_child()
            return
        self._is_closed = True
        try:
            self._flush()
        finally:
            self._file.close()

    def close_in_child(self) -> None:
        """After a fork, in the child: let go of the file, write nothing, leave the parent its lock."""
        self._is_closed = True
        self._file.close_in_child()

    def _flush(self) -> None:
        try:
            self._write_run()
            while self._pending:
                self._write(self._pending.popleft())
        except OSError:
            self._retry_time = self._time + self._retry_seconds
            self._retry_seconds = min(2 * self._retry_seconds, MAX_RETRY_SECONDS)
            raise
        self._retry_seconds = 1.0

    def _write_run(self) -> None:
        if self._needs_run and self._run is not None:
            line = _line(encode(self._run))
            if not self._is_fresh and not self._file.has_room(len(line)):
                self._rotate()
            self._file.append(line)
            self._needs_run = False

    def _write(self, record: Record) -> None:
        line = self._encode(record)
        try:
            if not self._is_fresh and not self._file.has_room(len(line)):
                self._rotate()
                self._write_run()
                line = self._encode(record)
            self._file.append(line)
        except OSError:
            self._pending.appendleft(record)
            raise
        self._is_fresh = False
        self._num_unstated = 0
        if isinstance(record, StepReport) and record.gradients is not None:
            self._tables[_key(record)] = record.gradients

    def _rotate(self) -> None:
        self._file.rotate()
        self._is_fresh = True
        self._needs_run = self._run is not None
        self._tables.clear()

    def _encode(self, record: Record) -> bytes:
        has_names = isinstance(record, StepReport) and not _has_same_names(
            record.gradients, self._tables.get(_key(record))
        )
        extra = {"num_dropped_lines": self._num_unstated} if self._num_unstated else None
        return _line(encode(record, has_names=has_names, extra=extra))


class Reader(Iterable[dict[str, Any]]):
    """Iterates over the objects of a log, oldest file first, each step with the columns that
    only the first step with them has: `layers`, `names`, `layer_index`, `frozen`.

    `num_cut_lines` counts, while it goes, the lines that are no JSON object: a writer was killed, or its disk full.
    A log that is being written can be read; what comes after the start may be missing.
    """

    def __init__(self, path: Path) -> None:
        self.num_cut_lines = 0
        self._loads = _loads()
        self._objects = self._read(path)
        if not path.exists():
            raise FileNotFoundError(f"there is no log {path}")

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Return what yields the objects that are left."""
        return self._objects

    def __next__(self) -> dict[str, Any]:
        """Return the next object."""
        return next(self._objects)

    def _read(self, path: Path) -> Iterator[dict[str, Any]]:
        tables: dict[tuple[object, ...], dict[str, Any]] = {}
        with ExitStack() as stack:
            for file in reversed(_open_all(path, stack)):
                for line in file:
                    entry = self._parse(line)
                    if entry is not None:
                        _carry_names(entry, tables)
                        yield entry

    def _parse(self, line: bytes) -> dict[str, Any] | None:
        try:
            entry = self._loads(line)
        except (RecursionError, ValueError):
            entry = None
        if not isinstance(entry, dict):
            self.num_cut_lines += bool(line.strip())
            return None
        version = entry.get("version", VERSION)
        if isinstance(version, int) and version > VERSION:
            raise ValueError(f"the log has version {version}, this reader knows {VERSION}: update loopscope")
        return entry


def read(path: str | os.PathLike[str]) -> Reader:
    """Return an iterator over the objects of the log at `path` and of its rotated files, oldest first."""
    return Reader(Path(path))


def create(settings: Mapping[str, object]) -> Exporter:
    """Return a recorder for a Config's fields: `jsonl` (placeholders filled in), `jsonl_max_bytes`, `jsonl_files`."""
    path, max_bytes, num_files = (settings[name] for name in ("jsonl", "jsonl_max_bytes", "jsonl_files"))
    assert isinstance(path, str), "who asks for a recorder has a path"
    assert isinstance(max_bytes, int), "checked by Config"
    assert isinstance(num_files, int), "checked by Config"
    return JsonlExporter(path, max_bytes, num_files)


@functools.cache
def _loads() -> Callable[[bytes], Any]:
    """Return what parses a line: orjson where it is installed, which takes a sixth of the time, else json."""
    try:
        import orjson
    except ImportError:
        return _json_loads

    def loads(line: bytes) -> Any:
        try:
            return orjson.loads(line)
        except ValueError:  # json takes lone surrogates as well, as in file names that are no UTF-8
            return _json_loads(line)

    return loads


def _json_loads(line: bytes) -> Any:
    """Return what json reads, with integers of more than 64 bits as floats, as orjson has them."""
    return json.loads(line, parse_int=_whole if _LONG_DIGITS.search(line) else None)


def _whole(digits: str) -> int | float:
    return value if -(2**63) <= (value := int(digits)) < 2**64 else float(digits)


def _line(text: str) -> bytes:
    return text.encode("ascii") + b"\n"


def _key(report: StepReport) -> tuple[object, ...]:
    return report.run, report.agent, report.rank, report.optimizer


def _has_same_names(table: GradientTable | None, written: GradientTable | None) -> bool:
    if table is None or written is None:
        return False
    return (
        table.names == written.names
        and table.layers == written.layers
        and table.frozen == written.frozen
        and np.array_equal(table.layer_index_P, written.layer_index_P)
    )


def _open_all(path: Path, stack: ExitStack) -> list[IO[bytes]]:
    """Open newest first: a rotation in between then shows a file twice, which is left out, and hides none."""
    files: list[IO[bytes]] = []
    seen = set()
    for candidate in rotated_paths(path):
        file = stack.enter_context(candidate.open("rb", buffering=_BUFFER_BYTES))
        inode = os.fstat(file.fileno()).st_ino
        if inode not in seen:
            seen.add(inode)
            files.append(file)
    return files


def _carry_names(entry: dict[str, Any], tables: dict[tuple[object, ...], dict[str, Any]]) -> None:
    gradients = entry.get("gradients")
    if entry.get("type") != "step" or not gradients or not isinstance(gradients, dict):
        return
    key = entry.get("run"), entry.get("agent"), entry.get("rank"), entry.get("optimizer")
    try:
        carried = tables.get(key)
    except TypeError:  # a list or the like: not of loopscope, as the decoder will find
        return
    if "names" in gradients:
        names = ("layers", "names", "layer_index", "frozen")
        tables[key] = {name: gradients[name] for name in names if name in gradients}
    elif carried is not None:
        gradients.update(carried)
