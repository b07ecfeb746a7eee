"""A positional encoding is added in place to a projection that ends with tanh.

DSPsleeporg/smiles-transformer#22, where `embedded += self.pe(embedded)` is proposed.
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
        self.project = nn.Sequential(nn.Linear(4, 8), nn.Tanh())
        self.register_buffer("positions", torch.linspace(-1.0, 1.0, 8))

    def forward(self, x):
        embedded = self.project(x)  # saver
        if self.is_reference:
            embedded = embedded + self.positions
        else:
            embedded += self.positions  # culprit
        return embedded


def make(is_reference=False):
    model = _Net(is_reference)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def step(_):
        optimizer.zero_grad()
        output = model(torch.randn(6, 4))
        output.square().mean().backward()
        optimizer.step()

    return model, optimizer, step
