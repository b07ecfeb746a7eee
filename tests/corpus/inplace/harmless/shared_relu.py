"""One ReLU(inplace=True) is used three times, each time after a layer that does not need its output.

pytorch/pytorch#5687: a residual block with such ReLUs, whose author suspected them.
"""

import torch
from torch import nn

OUTCOME = "harmless"
STEPS = 2


class _Block(nn.Module):
    def __init__(self, is_reference):
        super().__init__()
        self.is_reference = is_reference
        self.layers = nn.ModuleList(nn.Linear(8, 8) for _ in range(3))
        self.norm, self.relu = nn.BatchNorm1d(8), nn.ReLU(inplace=not is_reference)

    def forward(self, x):
        out = self.relu(self.layers[0](x))
        out = self.relu(self.norm(self.layers[1](out)))
        out = self.layers[2](out)
        if self.is_reference:
            out = out + x
        else:
            out += x
        return self.relu(out)


def make(is_reference=False):
    model = nn.Sequential(nn.Linear(4, 8), _Block(is_reference), _Block(is_reference))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def step(_):
        optimizer.zero_grad()
        model(torch.randn(6, 4)).square().mean().backward()
        optimizer.step()

    return model, optimizer, step
