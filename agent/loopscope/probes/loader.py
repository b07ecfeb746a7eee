"""LoaderProbe: sees each batch that a DataLoader yields, how long it took and how many samples it holds."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
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
                arrived(num_samples_in(batch, _batch_size(iterator)), False)
            elif isinstance(sys.exc_info()[1], StopIteration):
                arrived(None, True)

        return finish


def num_samples_in(batch: Any, batch_size: int | None = None) -> int | None:
    """Return the number of samples in a batch of any nesting, None where it cannot be told.

    It is the first dimension of the first tensor. Where that contradicts the loader's `batch_size` (a list of images of
    different sizes, a graph's nodes) it is the common length of the lists that make up the batch, or unknown.
    """
    first = _first_dimension(batch, 0)
    if batch_size is None or first == batch_size:
        return first
    listed = _common_length(batch)
    if listed is not None and listed <= batch_size:
        return listed
    return first if first is not None and first < batch_size else None


def _first_dimension(value: Any, depth: int) -> int | None:
    if isinstance(value, Tensor):
        return int(value.shape[0]) if value.dim() else None
    if depth < _MAX_DEPTH:
        for inner in islice(_values(value), _MAX_VALUES):
            number = _first_dimension(inner, depth + 1)
            if number is not None:
                return number
    return None


def _common_length(batch: Any) -> int | None:
    lengths = {len(value) if isinstance(value, list | tuple) else None for value in islice(_values(batch), _MAX_VALUES)}
    return lengths.pop() if len(lengths) == 1 else None


def _values(value: Any) -> Iterable[Any]:
    if isinstance(value, Mapping):
        return value.values()
    return value if isinstance(value, list | tuple) else ()


def _batch_size(iterator: Any) -> int | None:
    size = getattr(getattr(iterator, "_index_sampler", None), "batch_size", None)  # private; torch 2.4 to 2.13
    return size if isinstance(size, int) else None
