"""A custom function keeps its input as an attribute of ctx, and the input is changed before backward.

bitsandbytes-foundation/bitsandbytes#2034: attributes on ctx instead of save_for_backward.
"""

import torch
from torch import nn

OUTCOME = "silent"
STEPS = 1


class _Square(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.x = x  # saver
        return x * x

    @staticmethod
    def backward(ctx, gradient):
        return 2 * ctx.x * gradient


class _Net(nn.Module):
    def __init__(self, is_reference):
        super().__init__()
        self.is_reference = is_reference
        self.layer = nn.Linear(4, 8)

    def forward(self, x):
        hidden = self.layer(x)
        energy = _Square.apply(hidden)  # saver
        if self.is_reference:
            hidden = hidden + 1.0
        else:
            hidden += 1.0  # culprit
        return energy + hidden


def make(is_reference=False):
    model = _Net(is_reference)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def step(_):
        optimizer.zero_grad()
        output = model(torch.randn(6, 4))
        output.square().mean().backward()
        optimizer.step()

    return model, optimizer, step
