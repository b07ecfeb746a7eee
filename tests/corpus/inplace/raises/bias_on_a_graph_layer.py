"""The last step of a layer adds its bias in place; the norm before it ends with a root, which saves its result.

pyg-team/pytorch_geometric#8953: `out += self.bias` in the tutorial.
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
        self.layer = nn.Linear(4, 8, bias=False)
        self.bias = nn.Parameter(torch.zeros(8))

    def forward(self, x):
        out = torch.sqrt(self.layer(x).square().sum(dim=0) + 1.0)  # saver
        if self.is_reference:
            out = out + self.bias
        else:
            out += self.bias  # culprit
        return out


def make(is_reference=False):
    model = _Net(is_reference)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def step(_):
        optimizer.zero_grad()
        output = model(torch.randn(6, 4))
        output.square().mean().backward()
        optimizer.step()

    return model, optimizer, step
