"""DeviceClock: where the time of a step goes on a CUDA device, from events on the stream, without a sync."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import torch

from ..readback import is_capturing

__all__ = ["DeviceClock", "Timeline"]

_MAX_MARKS = 64
"""Marks of one step; a step of more micro-steps keeps the host's phases."""


class Timeline:
    """The marks of one step; read by the worker once the last event has come."""

    def __init__(self, marks: list[tuple[str, Any]], pool: list[Any]) -> None:
        self._marks, self._pool = marks, pool

    def is_ready(self) -> bool:
        """Whether the device has passed all marks; never waits."""
        return all(event.query() for _, event in reversed(self._marks))

    def phases(self) -> Mapping[str, float]:
        """Return the seconds of data_wait, forward, backward and optimizer on the device."""
        seconds = dict.fromkeys(("data_wait", "forward", "backward", "optimizer"), 0.0)
        for (begin, first), (end, second) in pairwise(self._marks):
            phase = _phase(begin, end)
            if phase is not None:
                seconds[phase] += first.elapsed_time(second) / 1e3  # torch gives milliseconds
        return seconds

    def release(self) -> None:
        """Give the events back; the last one is the first of the next step's timeline."""
        self._pool += [event for _, event in self._marks[:-1]]
        self._marks = []


class DeviceClock:
    """Records an event at each boundary of a step; off until the loop turns out to run on CUDA.

    A mark costs a few microseconds. Events are used again once the worker has read them.
    """

    def __init__(self) -> None:
        self._is_on = False
        self._pool: list[Any] = []
        self._marks: list[tuple[str, Any]] = []
        self._is_whole = True

    def mark(self, name: str, device: torch.device | None = None) -> None:
        """Mark `arrival`, `backward`, `backward_end`, `optimizer` or `end` on the current stream."""
        if not self._is_on:
            self._is_on = device is not None and device.type == "cuda" and torch.cuda.is_available()
        if not self._is_on:
            return
        if is_capturing() or len(self._marks) >= _MAX_MARKS:
            self._is_whole = False
            return
        if name == "arrival" and self._marks and self._marks[-1][0] == "arrival":
            self._pool.append(self._marks.pop()[1])  # only the batch that the step uses counts, not those of validation
        event = self._pool.pop() if self._pool else torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        self._marks.append((name, event))

    def take(self) -> Timeline | None:
        """End a step's timeline and begin the next; None where it did not begin with a step's end, or has gaps."""
        if not self._is_on:
            return None
        self.mark("end")
        marks, is_whole = self._marks, self._is_whole
        self._marks, self._is_whole = marks[-1:], True
        has_both_ends = len(marks) > 1 and marks[0][0] == "end" and marks[-1][0] == "end"
        return Timeline(marks, self._pool) if is_whole and has_both_ends else None


def _phase(begin: str, end: str) -> str | None:
    if end == "arrival":
        return "data_wait"
    if end == "backward":
        return "forward"
    return begin if begin in {"backward", "optimizer"} else None
