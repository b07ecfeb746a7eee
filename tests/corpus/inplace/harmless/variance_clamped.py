"""A Gaussian likelihood clamps the variance on a copy, where autograd does not see it: its gradient is meant to pass.

torch.nn.functional.gaussian_nll_loss; the look-alike of an activation that is rescaled without a graph.
"""

import torch
from torch import nn
from torch.nn import functional

OUTCOME = "harmless"
STEPS = 2


def make(is_reference=False):
    model = nn.Linear(4, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def step(index):
        optimizer.zero_grad()
        mean, raw = model(torch.randn(6, 4)).chunk(2, dim=-1)
        variance = functional.softplus(raw) * (1.0 if index == 0 else 1e-6)
        target = torch.randn(6, 1)
        if is_reference:
            clamped = variance + (variance.clamp(min=1e-6) - variance).detach()
            loss = (0.5 * (torch.log(clamped) + (mean - target) ** 2 / clamped)).mean()
        else:
            loss = functional.gaussian_nll_loss(mean, target, variance)
        loss.backward()
        optimizer.step()

    return model, optimizer, step
