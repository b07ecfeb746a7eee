"""Waiting: the records of one signal on their way, bounded; the oldest give way, counted."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from .answers import Outcome
from .environment import Pace

__all__ = ["Waiting"]

_T = TypeVar("_T")


class Waiting(Generic[_T]):
    """A Source of messages that are put in on any thread and taken by the lane's.

    It holds `max_waiting` messages and the batch that is under way.
    """

    def __init__(self, encode: Callable[[Sequence[_T]], bytes], pace: Pace) -> None:
        self._encode, self._pace = encode, pace
        self._lock = threading.Lock()
        self._messages: deque[_T] = deque()
        self._under_way: list[_T] = []
        self._num_dropped = 0

    @property
    def num_dropped(self) -> int:
        """Messages that gave way or were refused."""
        return self._num_dropped

    @property
    def is_full(self) -> bool:
        """Whether a whole batch waits."""
        return len(self._messages) >= self._pace.max_batch

    def put(self, message: _T) -> None:
        """Add a message; where too many wait the oldest gives way."""
        with self._lock:
            if len(self._messages) >= self._pace.max_waiting:
                self._messages.popleft()
                self._num_dropped += 1
            self._messages.append(message)

    def take(self, *, is_last: bool) -> bytes | None:
        """Return the next batch as a request, None where nothing waits."""
        with self._lock:
            size = min(len(self._messages), self._pace.max_batch)
            self._under_way = [self._messages.popleft() for _ in range(size)]
        return self._encode(self._under_way) if self._under_way else None

    def settle(self, outcome: Outcome, num_rejected: int) -> None:
        """Forget the batch, or have it wait again, before the others."""
        with self._lock:
            batch, self._under_way = self._under_way, []
            if outcome is Outcome.RETRY:
                num_too_many = max(0, len(self._messages) + len(batch) - self._pace.max_waiting)
                self._messages.extendleft(reversed(batch[num_too_many:]))
                self._num_dropped += num_too_many
            else:
                self._num_dropped += len(batch) if outcome is Outcome.REFUSED else num_rejected

    def abandon(self) -> None:
        """Count all that waits as dropped."""
        with self._lock:
            self._num_dropped += len(self._messages) + len(self._under_way)
            self._messages.clear()
            self._under_way = []
