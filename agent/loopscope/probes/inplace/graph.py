"""The graph as the autograd engine sees it: walks over nodes, which unpack nothing that is saved under hooks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor

__all__ = ["is_downstream", "nodes_of"]

_MAX_NODES = 200_000


def nodes_of(roots: Sequence[Any]) -> Iterator[Any]:
    """Yield the nodes that a backward from these roots runs: tensors, or nodes."""
    stack = [root.grad_fn if isinstance(root, Tensor) else root for root in roots]
    seen: set[Any] = set()
    while stack and len(seen) < _MAX_NODES:
        node = stack.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        yield node
        stack += [following for following, _ in node.next_functions]


def is_downstream(node: Any, origin: Any) -> bool:
    """Whether `node` gets its gradient through `origin`, or is it."""
    return any(each is node or each == node for each in nodes_of([origin]))
