"""The top-down path adds to laterals in place, and their convolutions end with a ReLU.

lyongo/NWPU-MOC#4: `laterals[i - 1] += F.interpolate(...)`.
"""

import torch
import torch.nn.functional as F  # noqa: N812 - as everybody calls it
from torch import nn

OUTCOME = "raises"
STEPS = 1
RAISES_IN = "backward"


class _Pyramid(nn.Module):
    def __init__(self, is_reference):
        super().__init__()
        self.is_reference = is_reference
        self.laterals = nn.ModuleList(nn.Conv2d(2, 3, kernel_size=1) for _ in range(2))

    def forward(self, levels):
        laterals = [F.relu(layer(level)) for layer, level in zip(self.laterals, levels, strict=True)]  # saver
        above = F.interpolate(laterals[1], size=laterals[0].shape[-2:], mode="nearest")
        if self.is_reference:
            laterals[0] = laterals[0] + above
        else:
            laterals[0] += above  # culprit
        return laterals[0]


def make(is_reference=False):
    model = _Pyramid(is_reference)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def step(_):
        optimizer.zero_grad()
        model([torch.randn(1, 2, 8, 8), torch.randn(1, 2, 4, 4)]).square().mean().backward()
        optimizer.step()

    return model, optimizer, step
