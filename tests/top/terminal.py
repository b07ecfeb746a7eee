"""A terminal for tests: a program runs in it, keys are pressed, and what stands on its screen can be read."""

from __future__ import annotations

import fcntl
import os
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from tests.python_process import ROOT
from tests.waiting import wait_until

__all__ = ["Terminal", "terminal"]

_START = """
import fcntl, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
from loopscope.cli import main
sys.exit(main(sys.argv[1:]))
"""
_START_SHELL = """
import fcntl, os, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execvp("bash", ["bash", "--norc", "-i"])
"""
_ENTER, _LEAVE, _HOME = "\x1b[?1049h", "\x1b[?1049l", "\x1b[H"
_HIDDEN, _SHOWN = "\x1b[?25l", "\x1b[?25h"
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal:
    """The side of the person in front of it."""

    def __init__(self, ours: int, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self._ours = ours
        self._before = termios.tcgetattr(ours)
        self._told = b""

    def press(self, keys: bytes) -> None:
        """Type."""
        os.write(self._ours, keys)

    def resize(self, width: int, height: int) -> None:
        """Change the size; the kernel tells the program."""
        _resize(self._ours, width, height)

    @property
    def told(self) -> str:
        """All that was written so far, controls included."""
        try:
            while data := os.read(self._ours, 65_536):
                self._told += data
        except BlockingIOError:
            pass
        except OSError:  # nobody has the other side any more
            pass
        return self._told.decode(errors="ignore")  # the last character may be on its way

    @property
    def screen(self) -> Sequence[str]:
        """The lines of the latest whole picture, none where there is none."""
        pictures = self.told.rpartition(_ENTER)[2].split(_HOME)[1:]
        lines = [_CONTROL.sub("", picture).split("\r\n") for picture in pictures]
        return next((picture for picture in reversed(lines) if len(picture) == _size(self._ours)[1]), [])

    def wait_for(self, *words: str) -> Sequence[str]:
        """Return the picture once all these words stand in it."""

        def shown() -> Sequence[str]:
            picture = self.screen
            return picture if all(any(word in line for line in picture) for word in words) else []

        try:
            return wait_until(shown, seconds=20)
        except AssertionError as fault:
            raise AssertionError(
                f"{words} are not in this:\n" + "\n".join(self.screen) + repr(self.told[-500:])
            ) from fault

    def end(self) -> int:
        """Return the exit status; AssertionError where the terminal is not as it was."""
        status = self.process.wait(20)
        told = self.told
        assert told.count(_ENTER) == told.count(_LEAVE)
        assert told.rindex(_ENTER) < told.rindex(_LEAVE)
        assert told.rindex(_HIDDEN) < told.rindex(_SHOWN)
        assert termios.tcgetattr(self._ours) == self._before
        return status


@contextmanager
def terminal(
    *arguments: str,
    width: int = 80,
    height: int = 24,
    variables: Mapping[str, str] | None = None,
    shell: bool = False,
) -> Iterator[Terminal]:
    """Run `loopscope ARGUMENTS` in a terminal, or a shell; it is dead at the end."""
    ours, theirs = os.openpty()
    os.set_blocking(ours, False)
    _resize(ours, width, height)
    paths = os.pathsep.join(str(ROOT / root) for root in ("agent", "dashboards", "exporters"))
    plain: dict[str, str] = {name: value for name, value in os.environ.items() if name not in {"COLUMNS", "LINES"}}
    environment = plain | {"PYTHONPATH": paths, "TERM": "xterm-256color", "PYTHONUTF8": "1"} | dict(variables or {})
    streams: dict[str, Any] = {"stdin": theirs, "stdout": theirs, "stderr": theirs}
    process = subprocess.Popen(
        [sys.executable, "-c", _START_SHELL if shell else _START, *arguments],
        env=environment,
        start_new_session=True,
        **streams,
    )
    try:
        yield Terminal(ours, process)
    finally:
        process.kill()
        process.wait()
        os.close(theirs)
        os.close(ours)


def _resize(descriptor: int, width: int, height: int) -> None:
    fcntl.ioctl(descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))


def _size(descriptor: int) -> tuple[int, int]:
    height, width, _, _ = struct.unpack("HHHH", fcntl.ioctl(descriptor, termios.TIOCGWINSZ, bytes(8)))
    return width, height
