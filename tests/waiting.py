"""Waiting in tests: a condition is polled until a deadline, never slept for."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

__all__ = ["await_workers", "wait_until"]

_T = TypeVar("_T")


def await_workers() -> None:
    """Wait until no worker thread is left: what ended one is told of (by pytest) within the test that did it."""
    wait_until(lambda: "loopscope-worker" not in {thread.name for thread in threading.enumerate()})


def wait_until(condition: Callable[[], _T], *, seconds: float = 10.0) -> _T:
    """Return the first true value of `condition`; AssertionError when there is none in time."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"{condition} did not become true within {seconds} s"
        time.sleep(0.01)
    return value
