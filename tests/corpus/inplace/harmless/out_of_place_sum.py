"""`x = x + y` where `x += y` fails, and names that are bound anew.

The fix of iMED-Lab/ER-Net#3.
"""

import torch
from torch import nn

OUTCOME = "harmless"
STEPS = 2


class _Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.shortcut = nn.Linear(4, 8), nn.Linear(4, 8)

    def forward(self, x):
        out = torch.relu(self.layer(x))
        out = out + self.shortcut(x)
        out = out * 0.5
        sizes = [len(out)]
        sizes += [1]
        return out.exp().mul(2.0)


def make():
    model = _Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def step(_):
        optimizer.zero_grad()
        model(torch.randn(6, 4)).square().mean().backward()
        optimizer.step()

    return model, optimizer, step
