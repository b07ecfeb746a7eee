"""A custom exponential saves its output, and a loss from elsewhere turns its input into the gradient in place.

linkedin/Liger-Kernel#254 and #272: kernels that reuse the memory of their input.
"""

import torch
from tests.corpus.inplace._losses import shifted_square
from torch import nn

OUTCOME = "raises"
STEPS = 1
RAISES_IN = "backward"
ALSO = ("_losses.py",)


class _Exponential(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        result = torch.exp(x)
        ctx.save_for_backward(result)
        return result

    @staticmethod
    def backward(ctx, gradient):
        (result,) = ctx.saved_tensors
        return gradient * result


def make(is_reference=False):
    model = nn.Linear(4, 8)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)

    def step(_):
        optimizer.zero_grad()
        prediction = _Exponential.apply(model(torch.randn(6, 4)))  # saver
        shifted_square(prediction, torch.ones(6, 8), is_reference=is_reference).backward()
        optimizer.step()

    return model, optimizer, step
