"""What went into a checkpointed region is scaled in place before the region is computed again.

hpcaitech/ColossalAI#1463: whether a checkpoint's input is modified decides which variant it chooses.
"""

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

OUTCOME = "raises"
STEPS = 1
RAISES_IN = "backward"


class _Net(nn.Module):
    def __init__(self, is_reference):
        super().__init__()
        self.is_reference = is_reference
        self.stem = nn.Linear(4, 8)
        self.block = nn.Sequential(nn.Linear(8, 8), nn.Tanh())

    def forward(self, x):
        x = self.stem(x)
        y = checkpoint(self.block, x, use_reentrant=True)  # saver
        if self.is_reference:
            x = x * 0.5
        else:
            x *= 0.5  # culprit
        return x + y


def make(is_reference=False):
    model = _Net(is_reference)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def step(_):
        optimizer.zero_grad()
        output = model(torch.randn(6, 4))
        output.square().mean().backward()
        optimizer.step()

    return model, optimizer, step
