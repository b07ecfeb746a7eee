"""A compiled network counts its calls in a Python number, and computes with it."""

from __future__ import annotations

from torch import Tensor

from ..digits import DigitsLayers
from ..training import Training

__all__ = ["TRAINING"]


class _Network(DigitsLayers):
    def __init__(self) -> None:
        super().__init__()
        self.num_calls = 0  # planted
        self.compile(backend="eager")  # which needs no C++ compiler

    def forward(self, images: Tensor) -> Tensor:
        self.num_calls += 1
        temperature = 1.0 + 4.0 / self.num_calls  # the first guesses are held to be uncertain
        return self.classify(self.embed(images)) / temperature


TRAINING = Training(network=_Network)
