"""Nothing fails until the auxiliary head is switched on in the third step, which scales its input in place.

anse3832/USR_DA#4 and others: it trains for a while, then the error comes.
"""

import torch
from torch import nn

OUTCOME = "raises"
STEPS = 3
RAISES_IN = "backward"


class _Net(nn.Module):
    def __init__(self, is_reference):
        super().__init__()
        self.is_reference = is_reference
        self.layer, self.is_warm = nn.Linear(4, 8), False

    def forward(self, x):
        x = torch.tanh(self.layer(x))  # saver
        if self.is_warm and self.is_reference:
            x = x * 0.1
        elif self.is_warm:
            x.mul_(0.1)  # culprit
        return x


def make(is_reference=False):
    model = _Net(is_reference)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def step(index):
        model.is_warm = index >= 2
        optimizer.zero_grad()
        model(torch.randn(6, 4)).square().mean().backward()
        optimizer.step()

    return model, optimizer, step
