"""A shortcut is added in place to what a ReLU has put out and keeps for its backward."""

from __future__ import annotations

from torch import Tensor, nn

from ..digits import NUM_FEATURES, NUM_HIDDEN, DigitsLayers
from ..training import Training

__all__ = ["TRAINING"]


class _Network(DigitsLayers):
    def __init__(self) -> None:
        super().__init__()
        self.shortcut = nn.Linear(NUM_FEATURES, NUM_HIDDEN)

    def forward(self, images: Tensor) -> Tensor:
        features = self.embed(images)
        hidden = self.relu(self.hidden(features))
        hidden += self.shortcut(features)  # planted
        logits: Tensor = self.classifier(hidden)
        return logits


TRAINING = Training(network=_Network)
