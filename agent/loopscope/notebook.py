"""Notebook: what the probes have noted, fetched at the end of each step, and now and then where none ends."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from .guard import Guard, Site
from .notes import Note

__all__ = ["Notebook"]

_IDLE_SECONDS = 1.0
"""Without a step for so long the worker fetches the notes: an evaluation, or a program that takes no steps."""


class Notebook:
    """The probes that take notes, each behind its guard site. Any thread may fetch; each note is fetched once."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        self._pages: list[tuple[Callable[[], Sequence[Note]], Site]] = []
        self._turns: list[tuple[Callable[[], Sequence[Note]], Site]] = []
        self._taken_seconds = time.monotonic()

    def add(
        self, collect: Callable[[], Sequence[Note]], site: Site, *, end_step: Callable[[], Sequence[Note]] | None = None
    ) -> None:
        """Fetch from `collect` as well: it returns what is new, in less than a microsecond where nothing is.

        At the end of each step `end_step` is called in its place, on the training thread.
        """
        self._pages.append((collect, site))
        self._turns.append((end_step or collect, site))

    def end_step(self) -> Sequence[Note]:
        """Return what the step that ends has brought."""
        self._taken_seconds = time.monotonic()
        return self._guard.gather(self._turns)

    def take(self) -> Sequence[Note]:
        """Return what has been noted since the last time."""
        self._taken_seconds = time.monotonic()
        return self._guard.gather(self._pages)

    def take_if_idle(self) -> Sequence[Note]:
        """Return the same where nobody has asked for a while: what a step brings belongs to that step."""
        is_idle = time.monotonic() - self._taken_seconds > _IDLE_SECONDS
        return self.take() if is_idle else ()
