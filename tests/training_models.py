"""Small networks on scikit-learn's digits, and their batches."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset, TensorDataset

__all__ = ["BATCH_SIZE", "Detached", "Gpt", "Lstm", "SlowImages", "batches", "conv", "digits", "mlp"]

BATCH_SIZE = 32


def digits() -> tuple[Tensor, Tensor]:
    """Return images [1797, 64] and labels [1797]."""
    data = load_digits()
    return torch.tensor(data.images, dtype=torch.float32).flatten(1) / 16, torch.tensor(data.target)


def batches(seed: int, size: int = BATCH_SIZE, *, num: int = 1_437, label_noise: float = 0.0) -> Iterator[Any]:
    """Return batches without end; some labels may be wrong, by a share."""
    generator = torch.Generator().manual_seed(seed)
    images, labels = (values[:num] for values in digits())
    is_wrong = torch.rand(num, generator=generator) < label_noise
    labels = torch.where(is_wrong, torch.randint(0, 10, (num,), generator=generator), labels)
    loader = DataLoader(TensorDataset(images, labels), size, shuffle=True, generator=generator, drop_last=size > 1)
    return itertools.chain.from_iterable(itertools.repeat(loader))


def mlp(*sizes: int, activation: Callable[[], nn.Module] = nn.ReLU) -> nn.Sequential:
    """Return linear layers of these sizes behind the 64 pixels, and a head of ten."""
    layers = [module for i, o in itertools.pairwise((64, *sizes)) for module in (nn.Linear(i, o), activation())]
    return nn.Sequential(*layers, nn.Linear((64, *sizes)[-1], 10))


def conv() -> nn.Sequential:
    """Return two convolutions and two linear layers."""
    return nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)), nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(128, 64), nn.ReLU(),
        nn.Linear(64, 10),
    )  # fmt: skip


class Gpt(nn.Module):
    """Two causal blocks over rows of quantised pixels, which are to be foretold."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.position = nn.Embedding(17, 32), nn.Embedding(16, 32)
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(32, 4, 64, dropout=0.0, batch_first=True, norm_first=True) for _ in range(2)
        )
        self.head = nn.Linear(32, 17)

    def forward(self, images: Tensor) -> Tensor:
        """Run on a batch."""
        tokens = (images[:, 16:32] * 16).long()
        hidden, mask = self.embedding(tokens) + self.position.weight, nn.Transformer.generate_square_subsequent_mask(16)
        for block in self.blocks:
            hidden = block(hidden, src_mask=mask, is_causal=True)
        logits = self.head(hidden[:, :-1])
        return functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten(), reduction="none").mean()


class Lstm(nn.Module):
    """Two layers over the rows of an image."""

    def __init__(self) -> None:
        super().__init__()
        self.cells, self.head = nn.LSTM(8, 32, 2, batch_first=True), nn.Linear(32, 10)

    def forward(self, images: Tensor) -> Tensor:
        """Run on a batch."""
        logits: Tensor = self.head(self.cells(images.view(-1, 8, 8))[0][:, -1])
        return logits


class SlowImages(Dataset[tuple[Tensor, ...]]):
    """Images that take 0.5 ms each."""

    def __init__(self) -> None:
        self._images, self._labels = digits()

    def __len__(self) -> int:
        return 1_024

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        time.sleep(0.0005)  # 16 ms a batch
        return self._images[index], self._labels[index]


class Detached(nn.Module):
    """A branch that the loss does not reach."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.side, self.body, self.head = (
            nn.Linear(i, o) for i, o in ((64, 32), (32, 32), (32, 32), (32, 10))
        )

    def forward(self, images: Tensor) -> Tensor:
        """Run on a batch."""
        hidden = self.stem(images).relu()
        logits: Tensor = self.head(self.body(hidden).relu() + self.side(hidden).relu().detach())
        return logits
