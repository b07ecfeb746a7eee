"""The two halves of a gated unit are views, and their base is scaled in place afterwards.

pytorch/pytorch#39299 and its issue #36403, on what may be done to the outputs or to the input of chunk.
"""

import torch
from torch import nn

OUTCOME = "raises"
STEPS = 1
RAISES_IN = "backward"


class _Gated(nn.Module):
    def __init__(self, is_reference):
        super().__init__()
        self.is_reference = is_reference
        self.layer = nn.Linear(4, 8)

    def forward(self, x):
        both = self.layer(x)
        value, gate = both.chunk(2, dim=-1)
        out = value * torch.sigmoid(gate)  # saver
        if self.is_reference:
            both = both * 0.5
        else:
            both.mul_(0.5)  # culprit
        return out.sum(dim=-1) + both.sum(dim=-1)


def make(is_reference=False):
    model = nn.Sequential(nn.Linear(4, 4), _Gated(is_reference))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def step(_):
        optimizer.zero_grad()
        model(torch.randn(6, 4)).square().mean().backward()
        optimizer.step()

    return model, optimizer, step
