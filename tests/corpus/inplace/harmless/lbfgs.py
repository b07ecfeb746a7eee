"""LBFGS writes into the parameters between the evaluations of its closure, each of which makes its own graph.

The look-alike of tamarott/SinGAN#148: several updates, but a new forward for each.
"""

import torch
from torch import nn

OUTCOME = "harmless"
STEPS = 2


def make():
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.5, max_iter=4, line_search_fn="strong_wolfe")

    def step(_):
        x, target = torch.randn(12, 4), torch.randn(12, 1)

        def closure():
            optimizer.zero_grad()
            loss = (model(x) - target).square().mean()
            loss.backward()
            return loss

        optimizer.step(closure)

    return model, optimizer, step
