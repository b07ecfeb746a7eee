"""A clone of a detached output is changed in place, and so is its copy as numpy.

The fix of pytorch/pytorch#6990.
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
        gate = torch.sigmoid(self.layer(x))
        if not self.is_reference:
            shown = gate.detach().clone()
            shown[shown < 0.5] = 0.0
            shown.t().mul_(2.0)
            shown.numpy()[:] = 1.0
            gate.clone().add_(1.0)
        return gate


def make(is_reference=False):
    model = _Net(is_reference)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def step(_):
        optimizer.zero_grad()
        output = model(torch.randn(6, 4))
        output.square().mean().backward()
        optimizer.step()

    return model, optimizer, step
