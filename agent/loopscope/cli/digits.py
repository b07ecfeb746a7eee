"""The demo's data and network: the handwritten digits that ship with scikit-learn, and a small convolutional network.

Shape legend: B images of a batch, N images of a set.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset, random_split

try:
    from sklearn.datasets import load_digits  # type: ignore[import-untyped] # scikit-learn has no types
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "The demo trains on the digits of scikit-learn, which is not installed: pip install 'loopscope[demo]'",
        name=error.name,
    ) from error

__all__ = ["BATCH_SIZE", "DigitsNetwork", "accuracy", "loaders"]

BATCH_SIZE = 32
_VALIDATION_SHARE = 0.2
_WIDTH = 96
_NUM_PIXELS = 8
_LARGEST_PIXEL = 16.0


class DigitsNetwork(nn.Module):
    """Three convolutions and two linear layers, 700,000 parameters: images [B, 1, 8, 8] to logits [B, 10]."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, _WIDTH, 3, padding=1)
        self.conv2 = nn.Conv2d(_WIDTH, 2 * _WIDTH, 3, padding=1)
        self.conv3 = nn.Conv2d(2 * _WIDTH, 2 * _WIDTH, 3, padding=1)
        self.hidden = nn.Linear(2 * _WIDTH * (_NUM_PIXELS // 4) ** 2, 256)
        self.classifier = nn.Linear(256, 10)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits of a batch."""
        features = self.conv2(self.conv1(images).relu()).relu()
        features = self.conv3(nn.functional.max_pool2d(features, 2)).relu()
        features = nn.functional.max_pool2d(features, 2).flatten(1)
        logits: Tensor = self.classifier(self.hidden(features).relu())
        return logits


def loaders(seed: int) -> tuple[DataLoader[tuple[Tensor, ...]], DataLoader[tuple[Tensor, ...]]]:
    """Return the loaders of the training and the validation set; equal seeds give equal sets and orders."""
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / _LARGEST_PIXEL
    generator = torch.Generator().manual_seed(seed)
    dataset = TensorDataset(images, torch.tensor(digits.target))
    training, validation = random_split(dataset, [1 - _VALIDATION_SHARE, _VALIDATION_SHARE], generator)
    return (
        DataLoader(training, BATCH_SIZE, shuffle=True, generator=generator),
        DataLoader(validation, 4 * BATCH_SIZE),
    )


@torch.no_grad()
def accuracy(model: nn.Module, loader: DataLoader[tuple[Tensor, ...]]) -> float:
    """Return the share of images that the model names right."""
    model.eval()
    hits = [model(images).argmax(1) == labels for images, labels in loader]
    model.train()
    return float(torch.cat(hits).float().mean())
