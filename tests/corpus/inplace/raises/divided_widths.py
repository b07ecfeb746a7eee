"""The widths that a conditioner returns are scaled in place, but its last layer is a ReLU.

bayesiains/nflows#89: `/=` by the root of the number of features.
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
        self.conditioner = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 6), nn.ReLU())

    def forward(self, x):
        widths = self.conditioner(x)  # saver
        if self.is_reference:
            widths = widths / 8**0.5
        else:
            widths /= 8**0.5  # culprit
        return widths.softmax(dim=-1)[:, :3]


def make(is_reference=False):
    model = _Net(is_reference)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def step(_):
        optimizer.zero_grad()
        output = model(torch.randn(6, 4))
        output.square().mean().backward()
        optimizer.step()

    return model, optimizer, step
