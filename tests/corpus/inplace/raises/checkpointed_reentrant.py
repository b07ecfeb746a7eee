"""A region under reentrant checkpointing adds in place to an exponential: its recomputation fails.

pytorch/pytorch#193671 of the other variant, hpcaitech/ColossalAI#1460 of in-place operations under this one.
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
        self.stem, self.layer = nn.Linear(4, 8), nn.Linear(8, 8)

    def region(self, x):
        y = torch.exp(self.layer(x))  # saver
        if self.is_reference:
            y = y + 1.0
        else:
            y += 1.0  # culprit
        return y

    def forward(self, x):
        return checkpoint(self.region, self.stem(x), use_reentrant=True)


def make(is_reference=False):
    model = _Net(is_reference)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def step(_):
        optimizer.zero_grad()
        output = model(torch.randn(6, 4))
        output.square().mean().backward()
        optimizer.step()

    return model, optimizer, step
