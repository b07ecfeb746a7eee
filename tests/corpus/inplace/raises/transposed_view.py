"""What is modified is the transpose of what was saved.

pytorch/pytorch#24413: in-place changes and tensors that do not own their storage, as `.t()`.
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
        kernel = torch.exp(self.layer(x))  # saver
        by_feature = kernel.t()
        if self.is_reference:
            by_feature = by_feature * 0.5
        else:
            by_feature.mul_(0.5)  # culprit
        return by_feature @ x


def make(is_reference=False):
    model = _Net(is_reference)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def step(_):
        optimizer.zero_grad()
        output = model(torch.randn(6, 4))
        output.square().mean().backward()
        optimizer.step()

    return model, optimizer, step
