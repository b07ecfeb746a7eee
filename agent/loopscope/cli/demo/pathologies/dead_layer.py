"""What the convolutions put out is detached on its way to the loss."""

from __future__ import annotations

from torch import Tensor

from ..digits import DigitsLayers
from ..training import Training

__all__ = ["TRAINING"]


class _Network(DigitsLayers):
    def __init__(self) -> None:
        super().__init__()
        self.latest_features: Tensor | None = None
        """For a plot of them after each epoch."""

    def forward(self, images: Tensor) -> Tensor:
        features = self.embed(images)
        features = self.latest_features = features.detach()  # planted
        return self.classify(features)


TRAINING = Training(network=_Network)
