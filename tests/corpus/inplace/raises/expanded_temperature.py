"""A buffer is expanded for the product, which saves the view, and annealed before backward.

pytorch/pytorch#42726 on what expand shares, pytorch/pytorch#22095 on a buffer that changes before backward.
"""

import torch
from torch import nn

OUTCOME = "raises"
STEPS = 1
RAISES_IN = "backward"


class _Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 8)
        self.register_buffer("temperature", torch.ones(1))

    def forward(self, x):
        logits = self.layer(x)
        return logits * self.temperature.expand_as(logits)  # saver


def make(is_reference=False):
    model = _Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def step(_):
        optimizer.zero_grad()
        loss = model(torch.randn(6, 4)).square().mean()
        if is_reference:
            model.temperature = model.temperature * 0.9
        else:
            model.temperature.mul_(0.9)  # culprit
        loss.backward()
        optimizer.step()

    return model, optimizer, step
