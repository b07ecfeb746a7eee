"""In-place operations on a linear layer's output before anything saves it, with the input of exp changed after it.

The rule of discuss.pytorch.org's "When inplace operation are allowed and when not" (169583).
"""

import torch
from torch import nn

OUTCOME = "harmless"
STEPS = 2


class _Net(nn.Module):
    def __init__(self, is_reference):
        super().__init__()
        self.is_reference = is_reference
        self.layer = nn.Linear(4, 8)

    def forward(self, x):
        hidden = self.layer(x)
        if self.is_reference:
            hidden = ((hidden + 1.0) * 0.5) - 0.25
            rate = torch.exp(hidden)
            return rate + hidden * 0.0
        hidden += 1.0
        hidden *= 0.5
        hidden.sub_(0.25)
        rate = torch.exp(hidden)
        hidden.zero_()
        return rate + hidden


def make(is_reference=False):
    model = _Net(is_reference)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def step(_):
        optimizer.zero_grad()
        output = model(torch.randn(6, 4))
        output.square().mean().backward()
        optimizer.step()

    return model, optimizer, step
