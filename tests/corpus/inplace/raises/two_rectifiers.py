"""A functional ReLU and then relu_ on its output.

pytorch/pytorch#148835: eager fails as the compiler does.
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
        x = torch.relu(self.layer(x))  # saver
        if self.is_reference:
            return torch.relu(x)
        return torch.relu_(x)  # culprit


def make(is_reference=False):
    model = _Net(is_reference)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def step(_):
        optimizer.zero_grad()
        output = model(torch.randn(6, 4))
        output.square().mean().backward()
        optimizer.step()

    return model, optimizer, step
