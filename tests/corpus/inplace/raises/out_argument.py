"""A workspace that was an operand is the `out=` of the next computation.

pytorch/pytorch#29378 on reusing output buffers, pytorch/pytorch#150181 on `out=` and gradients.
"""

import torch
from torch import nn

OUTCOME = "raises"
STEPS = 1
RAISES_IN = "backward"


class _Net(nn.Module):
    def __init__(self, is_reference):
        super().__init__()
        self.is_reference = is_reference
        self.layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(2))
        self.workspace = torch.ones(4)

    def forward(self, x):
        if self.is_reference:
            self.workspace = torch.ones(4)
        for layer in self.layers:
            if self.is_reference:
                self.workspace = self.workspace * 0.5
            else:
                torch.mul(self.workspace, 0.5, out=self.workspace)  # culprit
            x = layer(x) * self.workspace  # saver
        return x


def make(is_reference=False):
    model = _Net(is_reference)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def step(_):
        optimizer.zero_grad()
        output = model(torch.randn(6, 4))
        output.square().mean().backward()
        optimizer.step()

    return model, optimizer, step
