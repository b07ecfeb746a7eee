"""Tap: one logger of torch, listened to without a change in what the user gets to see of it."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable

from ...guard import Site

__all__ = ["Tap"]


class Tap(logging.Handler):
    """A handler on the logger `name` that calls `take` with each record.

    A tap with the level DEBUG also opens a logger that is closed: it lowers its level, keeps what the user did not ask
    for from the handlers above, and passes on to them what they would have got. Several taps of one logger share
    that: the last one to leave closes it. `logging` knows nothing of dynamo's modules: a logger can be tapped before
    its module is there.
    """

    def __init__(self, name: str, take: Callable[[logging.LogRecord], None], site: Site, level: int) -> None:
        super().__init__(logging.DEBUG)
        self._logger = logging.getLogger(name)
        self._take, self._site, self._wanted = take, site, level
        self._before: tuple[int, bool] | None = None
        self._pid = os.getpid()

    def createLock(self) -> None:  # noqa: N802 - the name is logging's
        """Have none: `take` appends to a deque, and nothing on the training thread waits."""
        self.lock = None

    @property
    def is_open(self) -> bool:
        """Whether the logger is as `open` left it."""
        return self._logger.isEnabledFor(self._wanted) or not self.can_hear

    @property
    def can_hear(self) -> bool:
        """Whether the user lets such records be made at all (`logging.disable`)."""
        return self._logger.manager.disable < self._wanted

    def open(self) -> None:
        """Listen; a second call puts right what others have changed meanwhile (`torch._logging.set_logs` does)."""
        self._logger.addHandler(self)  # adds it once
        if self._wanted >= logging.WARNING or self._logger.getEffectiveLevel() <= self._wanted:
            return
        for tap in self._others():
            tap._before = None
        self._before = self._logger.level, self._logger.propagate
        self._logger.setLevel(self._wanted)
        self._logger.propagate = False

    def close_tap(self) -> None:
        """Leave the logger as it was found; a second call does nothing."""
        self._logger.removeHandler(self)
        before, self._before = self._before, None
        if before is None:
            return
        for tap in self._others():
            tap._before = before
            return
        if self._logger.level == self._wanted and not self._logger.propagate:  # else somebody else has set it since
            self._logger.setLevel(before[0])
            self._logger.propagate = before[1]

    def emit(self, record: logging.LogRecord) -> None:
        """Take the record, and pass it on if we are in its way."""
        if self._site.is_enabled and os.getpid() == self._pid:
            with self._site:
                self._take(record)
        if self._before is not None and self._before[1] and record.levelno >= self._level_before():
            above = self._logger.parent
            if above is not None:
                above.callHandlers(record)

    def _level_before(self) -> int:
        level = self._before[0] if self._before else logging.NOTSET
        above = self._logger.parent
        return level or (above.getEffectiveLevel() if above is not None else logging.WARNING)

    def _others(self) -> list[Tap]:
        return [handler for handler in self._logger.handlers if isinstance(handler, Tap) and handler is not self]
