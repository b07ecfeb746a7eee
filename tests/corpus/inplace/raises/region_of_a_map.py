"""A region of a feature map is multiplied and written back: the product saved what the assignment overwrites.

pytorch/pytorch#55980: `x[...] *= y` works where `x[...] = x[...] * y` does not.
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
        self.features, self.gains = nn.Linear(4, 8), nn.Linear(4, 2)

    def forward(self, x):
        features, gains = self.features(x), self.gains(x)
        if self.is_reference:
            return torch.cat((features[:, :2] * gains, features[:, 2:]), dim=-1)
        features[:, :2] = features[:, :2] * gains  # culprit # saver
        return features


def make(is_reference=False):
    model = _Net(is_reference)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def step(_):
        optimizer.zero_grad()
        output = model(torch.randn(6, 4))
        output.square().mean().backward()
        optimizer.step()

    return model, optimizer, step
