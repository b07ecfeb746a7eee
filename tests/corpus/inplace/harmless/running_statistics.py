"""A module keeps its own running mean and a counter with in-place updates, and returns what does not depend on them.

The look-alike of pytorch/pytorch#22095: a buffer that is no part of the graph.
"""

import torch
from torch import nn

OUTCOME = "harmless"
STEPS = 3


class _Watched(nn.Module):
    def __init__(self, is_reference):
        super().__init__()
        self.is_reference = is_reference
        self.layer = nn.Linear(4, 8)
        self.register_buffer("mean", torch.zeros(8))
        self.register_buffer("num_batches", torch.zeros((), dtype=torch.long))

    def forward(self, x):
        hidden = self.layer(x)
        if not self.is_reference:
            self.mean.mul_(0.9).add_(hidden.detach().mean(dim=0), alpha=0.1)
            self.num_batches += 1
        return torch.tanh(hidden)


def make(is_reference=False):
    model = nn.Sequential(_Watched(is_reference), nn.Linear(8, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def step(_):
        optimizer.zero_grad()
        (model(torch.randn(6, 4)) - model(torch.randn(6, 4))).square().mean().backward()
        optimizer.step()

    return model, optimizer, step
