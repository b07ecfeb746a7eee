"""A ReLU that works in place right after a sigmoid, within one nn.Sequential: one line has both.

pytorch/pytorch#107993 and #104943 are of such pairs; NVlabs/FUNIT#23 has the replies that ask for inplace=False.
"""

import torch
from torch import nn

OUTCOME = "raises"
STEPS = 1
RAISES_IN = "backward"


class _Net(nn.Module):
    def __init__(self, is_reference):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 8), nn.Sigmoid(), nn.ReLU(inplace=not is_reference), nn.Linear(8, 1))

    def forward(self, x):
        return self.layers(x)  # culprit # saver


def make(is_reference=False):
    model = _Net(is_reference)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def step(_):
        optimizer.zero_grad()
        output = model(torch.randn(6, 4))
        output.square().mean().backward()
        optimizer.step()

    return model, optimizer, step
