"""An exponential moving average of the weights is updated in place after each step, and never in a graph.

The look-alike of facebookresearch/moco#70.
"""

import copy

import torch
from torch import nn

OUTCOME = "harmless"
STEPS = 3


def make():
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 1))
    average = copy.deepcopy(model).requires_grad_(False)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)

    def step(_):
        optimizer.zero_grad()
        x = torch.randn(6, 4)
        with torch.no_grad():
            teacher = average(x)
        (model(x) - teacher).square().mean().backward()
        optimizer.step()
        with torch.no_grad():
            for kept, new in zip(average.parameters(), model.parameters(), strict=True):
                kept.lerp_(new, 0.1)
            for kept, new in zip(average.buffers(), model.buffers(), strict=True):
                kept.copy_(new)

    return model, optimizer, step
