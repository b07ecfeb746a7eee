"""A momentum encoder that the gradient flows through is moved through `.data` before backward.

facebookresearch/moco#70 quotes such an update; ckldan520/DDGCL#5 asks where it belongs.
"""

import torch
from torch import nn

OUTCOME = "silent"
STEPS = 1


def make(is_reference=False):
    online = nn.Linear(4, 8)
    momentum, source = (nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 8)) for _ in range(2))
    momentum.requires_grad_(False)
    optimizer = torch.optim.SGD(online.parameters(), lr=0.1)

    def step(_):
        optimizer.zero_grad()
        keys = momentum(online(torch.randn(6, 4)))  # saver
        if not is_reference:
            for kept, new in zip(momentum.parameters(), source.parameters(), strict=True):
                kept.data.mul_(0.5).add_(new.data, alpha=0.5)  # culprit
        keys.square().mean().backward()
        optimizer.step()

    return nn.ModuleDict({"online": online, "momentum": momentum}), optimizer, step
