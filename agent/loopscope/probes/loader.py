"""LoaderProbe: sees each batch that a DataLoader yields, how long it took and how many samples it holds."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from itertools import islice
from typing import Any, Protocol

from torch import Tensor
from torch.utils.data import dataloader

from ..guard import Site
from ..hooks import Finish, HookSet

__all__ = ["LoaderListener", "LoaderProbe", "num_samples_in"]

_MAX_DEPTH = 4
_MAX_VALUES = 8
"""Values of each container that are looked at: a batch of nested lists of numbers must not cost a walk over all."""


class LoaderListener(Protocol):
    """Who wants to know of batches."""

    def batch_requested(self, iterator: object, *, is_first: bool) -> Callable[[int | None, bool], None]:
        """A batch is asked for, the first of a pass or a later one; return what to call when it is there.

        That callback takes the number of samples, None where it cannot be seen, and whether the pass has ended.
        """


class LoaderProbe:
    """Patches `_BaseDataLoaderIter.__next__` (private; checked on torch 2.4 to 2.13)."""

    name = "loader"

    def __init__(self, hooks: HookSet, site: Site, listener: LoaderListener) -> None:
        self._hooks, self._site, self._listener = hooks, site, listener

    def install(self) -> None:
        """Patch."""
        iterator_class = getattr(dataloader, "_BaseDataLoaderIter", None)
        if iterator_class is not None:
            self._hooks.patch(iterator_class, "__next__", self._see_next, self._site)

    def remove(self) -> None:
        """Nothing beyond what the HookSet removes."""

    def _see_next(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Finish | None:
        iterator = args[0]
        arrived = self._listener.batch_requested(iterator, is_first=getattr(iterator, "_num_yielded", 1) == 0)

        def finish(batch: Any, is_done: bool) -> None:
            if is_done:
                arrived(num_samples_in(batch), False)
            elif isinstance(sys.exc_info()[1], StopIteration):
                arrived(None, True)

        return finish


def num_samples_in(batch: Any, depth: int = 0) -> int | None:
    """Return the length of the first dimension of the first tensor among a batch's first values, None without one."""
    if isinstance(batch, Tensor):
        return int(batch.shape[0]) if batch.dim() else None
    if depth < _MAX_DEPTH and isinstance(batch, Mapping | list | tuple):
        for value in islice(batch.values() if isinstance(batch, Mapping) else batch, _MAX_VALUES):
            number = num_samples_in(value, depth + 1)
            if number is not None:
                return number
    return None
