"""Six more layers, each behind a sigmoid, whose slope is a quarter at the most."""

from __future__ import annotations

from torch import Tensor, nn

from ..digits import NUM_HIDDEN, DigitsLayers
from ..training import Training

__all__ = ["TRAINING"]

_NUM_LAYERS = 6


class _Network(DigitsLayers):
    def __init__(self) -> None:
        super().__init__()
        self.deep = nn.Sequential()
        for _ in range(_NUM_LAYERS):
            self.deep.append(nn.Linear(NUM_HIDDEN, NUM_HIDDEN))
            self.deep.append(nn.Sigmoid())  # planted

    def forward(self, images: Tensor) -> Tensor:
        hidden = self.relu(self.hidden(self.embed(images)))
        logits: Tensor = self.classifier(self.deep(hidden))
        return logits


TRAINING = Training(network=_Network)
