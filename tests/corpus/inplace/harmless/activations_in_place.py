"""Activations in place behind layers that do not need their output, with those that save a copy of their input.

The look-alike of pytorch/pytorch#107993 and #92884.
"""

import torch
from torch import nn

OUTCOME = "harmless"
STEPS = 2


class _Net(nn.Module):
    def __init__(self, is_reference):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(4, 8),
            nn.SiLU(inplace=not is_reference),
            nn.Linear(8, 8),
            nn.LayerNorm(8),
            nn.Hardswish(inplace=not is_reference),
            nn.Linear(8, 8),
            nn.Dropout(0.2, inplace=not is_reference),
            nn.Linear(8, 8),
            nn.LeakyReLU(0.1, inplace=not is_reference),
            nn.Linear(8, 2),
            nn.Hardtanh(inplace=not is_reference),
        )

    def forward(self, x):
        return self.layers(x)


def make(is_reference=False):
    model = _Net(is_reference)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def step(_):
        optimizer.zero_grad()
        output = model(torch.randn(6, 4))
        output.square().mean().backward()
        optimizer.step()

    return model, optimizer, step
