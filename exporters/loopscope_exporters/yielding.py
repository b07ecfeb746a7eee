"""Letting a training loop have the interpreter while a long answer is made on a server's thread."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

__all__ = ["Yielding", "give_way"]

_SECONDS = 200e-6
_EVERY = 8

_T = TypeVar("_T")


def give_way() -> None:
    """Leave the interpreter to others for several times as long as it was held before: call it every 50 us or so.

    PyTorch lets go of the interpreter's lock at every operator. A thread that makes an answer takes it then, and what
    it does until it sleeps is added to each of the operators of one step. A sleep of zero does not help: CPython takes
    the lock again before the thread that waits has woken up (Python/ceval_gil.c, drop_gil).
    """
    time.sleep(_SECONDS)


class Yielding(Generic[_T]):
    """What `make` yields, made anew each time that somebody goes through it, giving way every few entries."""

    def __init__(self, make: Callable[[], Iterator[_T]]) -> None:
        self._make = make

    def __iter__(self) -> Iterator[_T]:
        """Yield the entries."""
        for index, entry in enumerate(self._make()):
            if index % _EVERY == _EVERY - 1:
                give_way()
            yield entry
