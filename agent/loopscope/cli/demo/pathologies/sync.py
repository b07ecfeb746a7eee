"""The running loss is read from the device at every step."""

from __future__ import annotations

from torch import nn
from torch.optim import Optimizer

from ..training import Loader, Training, update

__all__ = ["TRAINING"]


def _train_epoch(model: nn.Module, optimizer: Optimizer, loader: Loader, epoch: int) -> object:
    running_loss = 0.0
    for images, labels in loader:
        loss = nn.functional.cross_entropy(model(images), labels)
        update(model, optimizer, loss)
        running_loss += loss.item()  # planted
    return running_loss / len(loader)


TRAINING = Training(train_epoch=_train_epoch, settings={"sync_budget": 0, "allow_syncs": ("digits.py",)})
