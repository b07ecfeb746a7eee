"""An alias made with detach() is zeroed, and with it what the sigmoid saved.

pytorch/pytorch#6990: `.detach()` against `.data`.
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
        gate = torch.sigmoid(self.layer(x))  # saver
        shown = gate.detach()
        if self.is_reference:
            shown = shown.clone()
        shown.clamp_(max=0.5)  # culprit
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
