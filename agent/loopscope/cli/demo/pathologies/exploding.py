"""The learning rate warms up, and goes on rising where the warm-up should end."""

from __future__ import annotations

from torch import nn
from torch.optim import Optimizer

from ..training import LEARNING_RATE, Loader, Training, update

__all__ = ["TRAINING"]

_WARM_UP_STEPS = 10


def _train_epoch(model: nn.Module, optimizer: Optimizer, loader: Loader, epoch: int) -> None:
    for number, (images, labels) in enumerate(loader, start=1 + epoch * len(loader)):
        factor = (number / _WARM_UP_STEPS) ** 4  # planted
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * factor
        update(model, optimizer, nn.functional.cross_entropy(model(images), labels))


TRAINING = Training(train_epoch=_train_epoch)
