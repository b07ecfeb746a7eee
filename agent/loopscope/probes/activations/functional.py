"""How many activations there are in an autograd graph, whoever called them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor

__all__ = ["count_activations"]

_MAX_NODES = 20_000
_NODES = frozenset(
    f"{name}Backward0"
    for name in (
        "Relu", "Gelu", "Silu", "Mish", "Hardswish", "Sigmoid", "Hardsigmoid", "Tanh", "Hardtanh", "Elu", "LeakyRelu",
        "Softplus", "Threshold", "Prelu", "RreluWithNoise", "LogSigmoid", "Celu", "Hardshrink", "Softshrink",
    )
)  # fmt: skip


def count_activations(roots: Iterable[Tensor]) -> int | None:
    """Return the number of activation nodes behind `roots`, None where the graph is too large to look at.

    Cost: about a microsecond a node. Activations inside of fused operators and of checkpoints are not seen.
    """
    open_nodes: list[Any] = [root.grad_fn for root in roots if root.grad_fn is not None]
    seen = set(open_nodes)
    count = 0
    while open_nodes:
        node = open_nodes.pop()
        count += node.name() in _NODES
        for further, _ in node.next_functions:
            if further is not None and further not in seen:
                seen.add(further)
                open_nodes.append(further)
        if len(seen) > _MAX_NODES:
            return None
    return count
