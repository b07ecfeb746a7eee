"""Workload: a model, its optimizers and one step of the loop, small enough for tests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["Workload", "mlp", "with_optimizer"]


@dataclass(frozen=True)
class Workload:
    """A model, its optimizers, and one step of the loop: step number in, loss out."""

    model: Any
    optimizer: Any
    step: Callable[[int], Tensor]


def mlp(width: int = 8, depth: int = 3) -> nn.Sequential:
    """Return linear layers with a tanh after each."""
    return nn.Sequential(*[layer for _ in range(depth) for layer in (nn.Linear(width, width), nn.Tanh())])


def with_optimizer(
    model: nn.Module, optimizer: torch.optim.Optimizer, batch: Callable[[], Tensor] | None = None
) -> Workload:
    """Return the plain loop: forward, backward, step, zero_grad."""
    make_batch = batch or (lambda: torch.randn(4, 8))

    def step(_: int) -> Tensor:
        loss = functional.mse_loss(model(make_batch()), torch.ones(()).expand_as(model(make_batch())))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss

    return Workload(model, optimizer, step)
