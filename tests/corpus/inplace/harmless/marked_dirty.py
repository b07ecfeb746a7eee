"""A custom function works in place and says so, behind a linear layer; another keeps a clone on ctx.

The fix of bitsandbytes-foundation/bitsandbytes#2034 and pytorch/pytorch#5871.
"""

import torch
from torch import nn

OUTCOME = "harmless"
STEPS = 2


class _Rectify(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        x.clamp_(min=0.0)
        ctx.mark_dirty(x)
        ctx.save_for_backward(x)
        return x

    @staticmethod
    def backward(ctx, gradient):
        (result,) = ctx.saved_tensors
        return gradient * (result > 0)


class _Square(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.x = x.clone()
        return x * x

    @staticmethod
    def backward(ctx, gradient):
        return 2 * ctx.x * gradient


class _Net(nn.Module):
    def __init__(self, is_reference):
        super().__init__()
        self.is_reference = is_reference
        self.layer, self.head = nn.Linear(4, 8), nn.Linear(8, 8)

    def forward(self, x):
        x = self.layer(x)
        x = torch.relu(x) if self.is_reference else _Rectify.apply(x)
        x = self.head(x)
        energy = _Square.apply(x)
        if self.is_reference:
            x = x + 1.0
        else:
            x += 1.0
        return energy + x


def make(is_reference=False):
    model = _Net(is_reference)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def step(_):
        optimizer.zero_grad()
        output = model(torch.randn(6, 4))
        output.square().mean().backward()
        optimizer.step()

    return model, optimizer, step
