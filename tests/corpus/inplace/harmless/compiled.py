"""A compiled model with a ReLU that works in place.

The look-alike of pytorch/pytorch#104943.
"""

import torch
from torch import nn

OUTCOME = "harmless"
STEPS = 3


def make(is_reference=False):
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(inplace=not is_reference), nn.Linear(8, 1))
    compiled = torch.compile(model, backend="eager")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def step(_):
        optimizer.zero_grad()
        compiled(torch.randn(6, 4)).square().mean().backward()
        optimizer.step()

    return model, optimizer, step
