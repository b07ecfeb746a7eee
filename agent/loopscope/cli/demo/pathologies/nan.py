"""Every image is divided by its own contrast, of which a blank image has none."""

from __future__ import annotations

from torch import Tensor, nn
from torch.optim import Optimizer

from ..digits import DigitsLayers
from ..training import Loader, Training, update

__all__ = ["TRAINING"]


class _Network(DigitsLayers):
    def forward(self, images: Tensor) -> Tensor:
        contrast = images.std(dim=(1, 2, 3), keepdim=True)
        images = images / contrast  # planted
        return self.classify(self.embed(images))


def _train_epoch(model: nn.Module, optimizer: Optimizer, loader: Loader, epoch: int) -> None:
    for images, labels in loader:
        _cut_out(images, 4 * (epoch + 1))
        update(model, optimizer, nn.functional.cross_entropy(model(images), labels))


def _cut_out(images: Tensor, size: int) -> None:
    """Erase a square of every eighth image, so that the network learns to do without (DeVries and Taylor 2017)."""
    images[::8, :, :size, :size] = 0.0


TRAINING = Training(network=_Network, train_epoch=_train_epoch)
