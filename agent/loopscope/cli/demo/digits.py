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

__all__ = ["BATCH_SIZE", "NUM_FEATURES", "NUM_HIDDEN", "DigitsLayers", "DigitsNetwork", "accuracy", "loaders"]

BATCH_SIZE = 32
NUM_FEATURES = 768
"""Two poolings leave 2 * 2 pixels of 2 * _WIDTH channels."""
NUM_HIDDEN = 256
_VALIDATION_SHARE = 0.2
_WIDTH = 96
_LARGEST_PIXEL = 16.0


class DigitsLayers(nn.Module):
    """Three convolutions and two linear layers, 700,000 parameters; a subclass says how images go through them."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, _WIDTH, 3, padding=1)
        self.conv2 = nn.Conv2d(_WIDTH, 2 * _WIDTH, 3, padding=1)
        self.conv3 = nn.Conv2d(2 * _WIDTH, 2 * _WIDTH, 3, padding=1)
        self.hidden = nn.Linear(NUM_FEATURES, NUM_HIDDEN)
        self.classifier = nn.Linear(NUM_HIDDEN, 10)
        self.relu = nn.ReLU()
        """One module for all activations, as many write it: loopscope tells its calls apart."""

    def embed(self, images: Tensor) -> Tensor:
        """Return the features [B, 768] of images [B, 1, 8, 8]."""
        features = self.relu(self.conv2(self.relu(self.conv1(images))))
        features = self.relu(self.conv3(nn.functional.max_pool2d(features, 2)))
        return nn.functional.max_pool2d(features, 2).flatten(1)

    def classify(self, features: Tensor) -> Tensor:
        """Return the logits [B, 10] of features."""
        logits: Tensor = self.classifier(self.relu(self.hidden(features)))
        return logits


class DigitsNetwork(DigitsLayers):
    """The healthy network: images [B, 1, 8, 8] to logits [B, 10]."""

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits of a batch."""
        return self.classify(self.embed(images))


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
