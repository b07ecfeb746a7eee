"""allow_sync: a block in which waiting for the device is meant."""

from __future__ import annotations

import threading
from contextlib import ContextDecorator
from types import TracebackType
from typing import Self

__all__ = ["allow_sync", "is_allowed"]

_depths: dict[int, int] = {}
"""Open blocks by thread; a thread without one has no entry."""


class allow_sync(ContextDecorator):  # noqa: N801 - reads as a function: `with loopscope.allow_sync("why"):`
    """Let the syncs inside a block be: they are counted as allowed, and neither events nor the budget count them.

    Usable as a decorator as well, nestable, and free of torch; `reason` is for those who read the code. It stands
    outside compiled functions: inside one, it would break the graph.
    """

    def __init__(self, reason: str) -> None:
        if not str(reason).strip():
            raise ValueError(f"reason is {reason!r}; a text that says why this sync is meant is needed, as 'log once'")
        self.reason = reason

    def __enter__(self) -> Self:
        thread = threading.get_ident()
        _depths[thread] = _depths.get(thread, 0) + 1
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        thread = threading.get_ident()
        depth = _depths.get(thread, 0) - 1
        if depth > 0:
            _depths[thread] = depth
        else:
            _depths.pop(thread, None)


def is_allowed(thread: int) -> bool:
    """Whether the thread with this identifier is inside such a block."""
    return thread in _depths
