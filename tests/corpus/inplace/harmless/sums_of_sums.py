"""Sums into sums, slices of them included: addition saves nothing.

The look-alike of DSPsleeporg/smiles-transformer#22: embeddings, positions and segments.
"""

import torch
from torch import nn

OUTCOME = "harmless"
STEPS = 2


class _Embeddings(nn.Module):
    def __init__(self, is_reference):
        super().__init__()
        self.is_reference = is_reference
        self.words, self.segments = nn.Embedding(10, 8), nn.Embedding(2, 8)
        self.positions = nn.Parameter(torch.randn(5, 8))
        self.norm = nn.LayerNorm(8)

    def forward(self, words):
        segments = self.segments(words % 2)
        if self.is_reference:
            embedded = self.words(words) * 8**0.5 + self.positions + segments
            return self.norm(embedded)
        embedded = self.words(words) * 8**0.5
        embedded += self.positions
        embedded.add_(segments)
        return self.norm(embedded)


def make(is_reference=False):
    model = nn.Sequential(_Embeddings(is_reference), nn.Linear(8, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def step(_):
        optimizer.zero_grad()
        model(torch.randint(10, (3, 5))).square().mean().backward()
        optimizer.step()

    return model, optimizer, step
