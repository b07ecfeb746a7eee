"""Small probabilities are set to zero through a mask after the sigmoid that needs its output.

pytorch/pytorch#9391: an assignment into the output of a sigmoid, where the formula written out does not fail.
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
        self.layer = nn.Linear(4, 8)

    def forward(self, x):
        probabilities = torch.sigmoid(self.layer(x))  # saver
        is_small = probabilities < 0.5
        if self.is_reference:
            return torch.where(is_small, 0.0, probabilities)
        probabilities[is_small] = 0.0  # culprit
        return probabilities


def make(is_reference=False):
    model = _Net(is_reference)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def step(_):
        optimizer.zero_grad()
        output = model(torch.randn(6, 4))
        output.square().mean().backward()
        optimizer.step()

    return model, optimizer, step
