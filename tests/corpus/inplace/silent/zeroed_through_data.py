"""A value is clamped through `.data` for display, and the sigmoid's backward uses the clamped one.

pytorch/pytorch#6990: `.data` is not reported where `.detach()` is.
"""

import torch
from torch import nn

OUTCOME = "silent"
STEPS = 1


class _Net(nn.Module):
    def __init__(self, is_reference):
        super().__init__()
        self.is_reference = is_reference
        self.layer = nn.Linear(4, 8)

    def forward(self, x):
        gate = torch.sigmoid(self.layer(x))  # saver
        shown = gate.data
        if self.is_reference:
            return gate + (shown.clamp(min=0.6) - shown)
        shown.clamp_(min=0.6)  # culprit
        return gate


def make(is_reference=False):
    model = _Net(is_reference)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def step(_):
        optimizer.zero_grad()
        output = model(torch.randn(6, 4))
        output.square().mean().backward()
        optimizer.step()

    return model, optimizer, step
