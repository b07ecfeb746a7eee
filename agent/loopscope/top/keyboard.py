"""Keys as they are pressed, of a terminal that is put back as it was."""

from __future__ import annotations

import os
import re
import termios
import tty
from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

__all__ = ["Keyboard", "keys"]

_SEQUENCE = re.compile(rb"\x1b[\[O][0-9;]*[A-Za-z~]|[\x00-\xff]", re.DOTALL)
_NAMES = {
    b"\x1b[A": "up",
    b"\x1bOA": "up",
    b"k": "up",
    b"\x1b[B": "down",
    b"\x1bOB": "down",
    b"j": "down",
    b"\x1b[5~": "page up",
    b"\x1b[6~": "page down",
    b" ": "page down",
    b"q": "quit",
    b"Q": "quit",
    b"\x03": "quit",
}


class Keyboard:
    """Reads a terminal without echo and without waiting for the end of a line, for the length of a `with` block."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._before: list[Any] | None = None

    def __enter__(self) -> Self:
        """Take the terminal; Ctrl-C and Ctrl-Z go on being signals."""
        self._before = termios.tcgetattr(self.descriptor)
        tty.setcbreak(self.descriptor, termios.TCSADRAIN)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Put it back; what was typed and not read is dropped, so that the shell does not run it."""
        if self._before is not None:
            with suppress(termios.error):  # a terminal that is gone needs no putting back
                termios.tcsetattr(self.descriptor, termios.TCSAFLUSH, self._before)
            self._before = None

    def read(self) -> Sequence[str] | None:
        """Return the keys that were pressed; None where the terminal is gone."""
        try:
            data = os.read(self.descriptor, 1_024)
        except OSError:
            return None
        return keys(data) if data else None


def keys(data: bytes) -> Sequence[str]:
    """Return the names of the keys that are any of ours, in their order."""
    return [_NAMES[found] for found in _SEQUENCE.findall(data) if found in _NAMES]
