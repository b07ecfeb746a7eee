"""A tensor hook scales its gradient in place, which an addition has handed to the other branch too.

pytorch/pytorch#46168: gradients of a sum share their memory; pytorch/pytorch#34082: hooks must not change them.
"""

import torch
from torch import nn

OUTCOME = "silent"
STEPS = 1


class _Net(nn.Module):
    def __init__(self, is_reference):
        super().__init__()
        self.is_reference = is_reference
        self.main, self.auxiliary = nn.Linear(4, 8), nn.Linear(4, 8)

    def _dampen(self, gradient):
        if self.is_reference:
            return gradient * 0.1
        gradient.mul_(0.1)  # culprit
        return None

    def forward(self, x):
        main = self.main(x)
        auxiliary = self.auxiliary(x)
        auxiliary.register_hook(self._dampen)
        return main + auxiliary


def make(is_reference=False):
    model = _Net(is_reference)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def step(_):
        optimizer.zero_grad()
        output = model(torch.randn(6, 4))
        output.square().mean().backward()
        optimizer.step()

    return model, optimizer, step
