"""Holders: containers that hooks fill with tensors that have a graph."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple

from torch import Tensor

from .functions import containers_of

__all__ = ["Holder", "holders_of"]

_MIN_ELEMENTS = 4
_MAX_INNER = 4


class Holder(NamedTuple):
    """A container whose oldest element has a graph."""

    name: str
    identity: tuple[int, int]
    """Of the container and of its oldest element: what is emptied, or slides, is another one."""
    num_elements: int


def holders_of(hook: Any) -> Iterator[Holder]:
    """Yield the containers within the hook's reach that hold graphs in their oldest and in their latest element."""
    for name, container in containers_of(hook):
        if len(container) < _MIN_ELEMENTS:
            continue
        values = container.values() if isinstance(container, dict) else container
        first = next(iter(values), None)
        last = next(iter(reversed(values)), None)
        if _has_graph(first) and _has_graph(last):
            yield Holder(name, (id(container), id(first)), len(container))


def _has_graph(value: Any) -> bool:
    if isinstance(value, Tensor):
        return value.grad_fn is not None
    if isinstance(value, dict):
        value = list(itertools.islice(value.values(), _MAX_INNER))
    if isinstance(value, list | tuple):
        return any(isinstance(each, Tensor) and each.grad_fn is not None for each in value[:_MAX_INNER])
    return False
