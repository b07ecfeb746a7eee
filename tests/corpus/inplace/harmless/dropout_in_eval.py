"""Dropout in place on a softmax's output, but in evaluation mode, in which it does nothing.

The look-alike of pytorch/pytorch#727.
"""

import torch
from torch import nn

OUTCOME = "harmless"
STEPS = 2


class _Net(nn.Module):
    def __init__(self, is_reference):
        super().__init__()
        self.layer = nn.Linear(4, 8)
        self.dropout = nn.Dropout(0.5, inplace=not is_reference)
        self.dropout.eval()

    def forward(self, x):
        return self.dropout(torch.softmax(self.layer(x), dim=-1))


def make(is_reference=False):
    model = _Net(is_reference)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def step(_):
        optimizer.zero_grad()
        output = model(torch.randn(6, 4))
        output.square().mean().backward()
        optimizer.step()

    return model, optimizer, step
