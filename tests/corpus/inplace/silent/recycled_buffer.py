"""A custom function writes into a buffer that all its calls share and keeps it on ctx.

bitsandbytes-foundation/bitsandbytes#2034: a recycled buffer that the node kept a reference to.
"""

import torch
from torch import nn

OUTCOME = "silent"
STEPS = 1


class _Scale(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, factor, buffer):
        torch.add(factor, 1.0, out=buffer)  # culprit
        ctx.factors = buffer  # saver
        return x * buffer

    @staticmethod
    def backward(ctx, gradient):
        return gradient * ctx.factors, None, None


class _Net(nn.Module):
    def __init__(self, is_reference):
        super().__init__()
        self.is_reference = is_reference
        self.layer, self.head = nn.Linear(4, 8), nn.Linear(8, 8)
        self.buffer = torch.empty(8)

    def forward(self, x):
        for layer, factor in ((self.layer, 0.0), (self.head, 2.0)):
            buffer = torch.empty(8) if self.is_reference else self.buffer
            x = _Scale.apply(layer(x), torch.full((8,), factor), buffer)
        return x


def make(is_reference=False):
    model = _Net(is_reference)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def step(_):
        optimizer.zero_grad()
        output = model(torch.randn(6, 4))
        output.square().mean().backward()
        optimizer.step()

    return model, optimizer, step
