"""Dropout in place, behind a tanh that keeps its result, in a checkpoint, where PyTorch does not check it."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..digits import DigitsLayers
from ..training import Training

__all__ = ["TRAINING"]


class _Network(DigitsLayers):
    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = checkpoint(self._head, self.embed(images), use_reentrant=False)
        return logits

    def _head(self, features: Tensor) -> Tensor:
        hidden = torch.tanh(self.hidden(features))
        hidden = nn.functional.dropout(hidden, 0.3, self.training, inplace=True)  # planted
        logits: Tensor = self.classifier(hidden)
        return logits


TRAINING = Training(network=_Network)
