"""A file that grows by whole lines, belongs to one writer, and is rotated by number: path, path.1, path.2, ..."""

from __future__ import annotations

import errno
import fcntl
import os
from contextlib import suppress
from pathlib import Path

from loopscope.errors import SettingError

__all__ = ["RotatingFile", "rotated_paths"]

_NEWLINE = ord("\n")
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}
"""What file systems without locks answer; there the writer goes on unlocked."""


class RotatingFile:
    """Appends lines to `path`, unbuffered and with O_APPEND, under an exclusive flock; POSIX only.

    A path that cannot be opened is a SettingError of the setting `jsonl`. A line that was cut, by a full disk or by
    the death of the last writer, is ended before the next one is written.
    """

    def __init__(self, path: Path, *, max_bytes: int, num_files: int) -> None:
        self._path = Path(os.path.realpath(path))
        self._max_bytes = max_bytes
        self._num_files = num_files
        self._descriptor: int | None = None
        self._num_bytes = 0
        self._is_cut = False
        self._create()

    @property
    def is_empty(self) -> bool:
        """Whether nothing has been written to the current file."""
        return self._num_bytes == 0

    def has_room(self, num_bytes: int) -> bool:
        """Whether a line of that length keeps the current file within `max_bytes`."""
        return self._num_bytes + num_bytes + self._is_cut <= self._max_bytes

    def append(self, line: bytes) -> None:
        """Write a line (with its newline); after an OSError the whole line is to be written again."""
        if self._descriptor is None:
            self._open()
        assert self._descriptor is not None
        rest = memoryview(b"\n" + line if self._is_cut else line)
        while rest:
            num_written = os.write(self._descriptor, rest)
            self._num_bytes += num_written
            self._is_cut = rest[num_written - 1] != _NEWLINE
            rest = rest[num_written:]

    def rotate(self) -> None:
        """Number the current file and those before it one higher, drop what is beyond `num_files`, begin anew."""
        self.close()
        surplus = rotated_paths(self._path)[self._num_files - 1 :]
        for path in surplus:
            path.unlink(missing_ok=True)
        for index in range(self._num_files - 1, 0, -1):
            source = _numbered(self._path, index - 1)
            if source.exists():
                source.replace(_numbered(self._path, index))
        self._open()

    def close(self) -> None:
        """Unlock and close; a second call does nothing."""
        if self._descriptor is not None:
            # Explicitly, because forked children may hold the same open file.
            with suppress(OSError):
                fcntl.flock(self._descriptor, fcntl.LOCK_UN)
        self.close_in_child()

    def close_in_child(self) -> None:
        """After a fork, in the child: close without unlocking, as the lock is the parent's too."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def _create(self) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            if self._path.exists() and not self._path.is_file():
                raise self._wrong("It is not a regular file; name a file in that directory, say.")
            self._open()
        except BlockingIOError as fault:
            raise self._wrong("Another live run writes to it; put {agent}, {rank} or {pid} into the path.") from fault
        except OSError as fault:
            raise self._wrong(f"Choose another path ({fault.strerror}).") from fault

    def _wrong(self, remedy: str) -> SettingError:
        allowed = "a file that can be created or appended to, which no other run is writing"
        return SettingError("jsonl", str(self._path), allowed=allowed, remedy=remedy)

    def _open(self) -> None:
        descriptor = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            _lock(descriptor)
            self._num_bytes = os.fstat(descriptor).st_size
            self._is_cut = self._num_bytes > 0 and os.pread(descriptor, 1, self._num_bytes - 1) != b"\n"
        except OSError:
            os.close(descriptor)
            raise
        self._descriptor = descriptor


def rotated_paths(path: Path) -> list[Path]:
    """Return the files of a log that exist, the current one first and the oldest last."""
    paths: list[Path] = []
    while (candidate := _numbered(path, len(paths))).exists():
        paths.append(candidate)
    return paths


def _numbered(path: Path, index: int) -> Path:
    return path if index == 0 else path.with_name(f"{path.name}.{index}")


def _lock(descriptor: int) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as fault:
        if fault.errno not in _NO_LOCKS:
            raise
