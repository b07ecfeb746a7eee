"""The momentum encoder, through which the gradient flows, is updated between forward and backward.

ckldan520/DDGCL#5 asks whether the momentum update comes before or after backward.
"""

import torch
from torch import nn

OUTCOME = "raises"
STEPS = 1
RAISES_IN = "backward"


def make(is_reference=False):
    online, momentum = nn.Linear(4, 8), nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 8))
    source = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 8))
    momentum.requires_grad_(False)
    optimizer = torch.optim.SGD(online.parameters(), lr=0.1)

    @torch.no_grad()
    def update_momentum():
        for kept, new in zip(momentum.parameters(), source.parameters(), strict=True):
            kept.mul_(0.9).add_(new, alpha=0.1)  # culprit

    def step(_):
        optimizer.zero_grad()
        keys = momentum(online(torch.randn(6, 4)))  # saver
        if not is_reference:
            update_momentum()
        keys.square().mean().backward()
        optimizer.step()

    return nn.ModuleDict({"online": online, "momentum": momentum, "source": source}), optimizer, step
