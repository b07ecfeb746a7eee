"""Letting a training loop have the interpreter while a long answer is made on a server's thread."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TypeVar

__all__ = ["Yielding", "give_way"]

_SECONDS = 20e-6
_EVERY = 32

_T = TypeVar("_T")


def give_way() -> None:
    """Let a thread that waits for the interpreter's lock have it now, and not after the switch interval of 5 ms.

    A sleep of zero does not: within the interval CPython lets go of the lock and takes it again before the one that
    waits has woken up (Python/ceval_gil.c, drop_gil).
    """
    time.sleep(_SECONDS)


class Yielding(list[_T]):
    """A list that gives way every so many entries while somebody goes through it."""

    def __iter__(self) -> Iterator[_T]:
        """Yield the entries."""
        for index, entry in enumerate(super().__iter__()):
            if index % _EVERY == _EVERY - 1:
                give_way()
            yield entry
