"""Letting a training loop have the interpreter while a long answer is made on a server's thread."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Generic, TypeVar

__all__ = ["Yielding", "give_way"]

_SECONDS = 400e-6

_T = TypeVar("_T")


def give_way() -> None:
    """Leave the interpreter to others for several times as long as it was held before: call it every 50 us or so.

    PyTorch lets go of the interpreter's lock at every operator. A thread that makes an answer takes it then, and what
    it does until it sleeps is added to each of the operators of one step. A sleep of zero does not help: CPython takes
    the lock again before the thread that waits has woken up (Python/ceval_gil.c, drop_gil).
    """
    time.sleep(_SECONDS)


class Yielding(Generic[_T]):
    """What `make` gives, made anew each time that somebody goes through it, giving way after every so many entries.

    Never where `every` is None: where no step would feel the whole, each rest only has it go on with cold caches.
    """

    def __init__(self, make: Callable[[], Iterable[_T]], every: int | None = 8) -> None:
        self._make, self._every = make, every

    def __iter__(self) -> Iterator[_T]:
        """Yield the entries."""
        for index, entry in enumerate(self._make()):
            if self._every is not None and index % self._every == self._every - 1:
                give_way()
            yield entry
