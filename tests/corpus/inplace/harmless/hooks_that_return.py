"""Tensor hooks return new gradients, and a hook on accumulated gradients clamps them in place.

The look-alike of pytorch/pytorch#598 and meta-pytorch/opacus#9.
"""

import torch
from torch import nn

OUTCOME = "harmless"
STEPS = 2


def _clamp(parameter):
    parameter.grad.clamp_(-0.01, 0.01)


def make():
    model = nn.ModuleList(nn.Linear(4, 8) for _ in range(2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for parameter in model.parameters():
        parameter.register_post_accumulate_grad_hook(_clamp)

    def step(_):
        optimizer.zero_grad()
        x = torch.randn(6, 4)
        first, second = (layer(x) for layer in model)
        second.register_hook(lambda gradient: gradient * 0.1)
        (first + second).square().mean().backward()
        optimizer.step()

    return model, optimizer, step
