"""Training: what a run of the demo is made of; a pathology replaces one part of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader

from .digits import DigitsNetwork

__all__ = ["LEARNING_RATE", "Loader", "Training", "train_epoch", "update"]

Loader: TypeAlias = DataLoader[tuple[Tensor, ...]]
LEARNING_RATE = 1e-3
_MAX_NORM = 5.0


def train_epoch(model: nn.Module, optimizer: Optimizer, loader: Loader, epoch: int) -> None:
    """Train for one pass: nothing in here knows of loopscope."""
    for images, labels in loader:
        update(model, optimizer, nn.functional.cross_entropy(model(images), labels))


def update(model: nn.Module, optimizer: Optimizer, loss: Tensor) -> None:
    """Take a step down the gradient of `loss`."""
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call] # torch has no type for it
    nn.utils.clip_grad_norm_(model.parameters(), _MAX_NORM)
    optimizer.step()


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """The parts of a run; those that are left out are healthy."""

    network: Callable[[], nn.Module] = DigitsNetwork
    train_epoch: Callable[[nn.Module, Optimizer, Loader, int], object] = train_epoch
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Of loopscope.attach."""

    def optimizer(self, model: nn.Module) -> Optimizer:
        """Return the optimizer of all pathologies and of none."""
        return torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE)
