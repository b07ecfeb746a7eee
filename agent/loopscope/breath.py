"""Breath: the worker's sleep between two pieces of work, so that the loop never waits for many of them at once."""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["Breath"]

_STRETCH_SECONDS = 1e-3
_SLEEP_SECONDS = 3e-3
"""After a stretch of work the worker sleeps for longer than that: PyTorch lets go of the interpreter's lock at every
operator, so that one short step would meet one stretch after the other (docs/decisions/0008-answers-sleep.md).
"""
_FRAME_SECONDS = 50e-6
"""Of that sleep for each frame that may wait: where few may, fast steps must not fill the queue meanwhile."""


class Breath:
    """A stretch of work, and the sleep after it. Not thread-safe: the worker's."""

    def __init__(self, num_waiting: int, has_time: Callable[[], bool]) -> None:
        """`num_waiting` frames may wait meanwhile; nothing is slept away where `has_time` says no."""
        self._sleep_seconds = min(_SLEEP_SECONDS, num_waiting * _FRAME_SECONDS)
        self._has_time = has_time
        self._end_seconds = 0.0

    def begin(self) -> None:
        """Begin a stretch: the worker has just slept or waited."""
        self._end_seconds = time.monotonic() + _STRETCH_SECONDS

    def take(self) -> None:
        """Sleep where the stretch has lasted long enough: to be called between pieces of work."""
        if time.monotonic() > self._end_seconds and self._has_time():
            time.sleep(self._sleep_seconds)
            self.begin()
