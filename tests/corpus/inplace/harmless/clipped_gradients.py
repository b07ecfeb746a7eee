"""Gradients are clipped, noised and zeroed in place, after backward.

The look-alike of pytorch/pytorch#2843, where a hook was meant to change what the optimizer uses.
"""

import torch
from torch import nn

OUTCOME = "harmless"
STEPS = 3


def make():
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)

    def step(_):
        optimizer.zero_grad(set_to_none=False)
        model(torch.randn(6, 4)).square().mean().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        torch.nn.utils.clip_grad_value_(model.parameters(), 0.05)
        for parameter in model.parameters():
            parameter.grad.add_(torch.randn_like(parameter), alpha=1e-3)
            parameter.grad[..., 0] = 0.0
        optimizer.step()

    return model, optimizer, step
