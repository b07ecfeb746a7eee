"""Two backwards through one graph with retain_graph=True, and the step only after both.

The fix of 1Konny/FactorVAE#15.
"""

import torch
from torch import nn

OUTCOME = "harmless"
STEPS = 2


def make():
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)

    def step(_):
        optimizer.zero_grad()
        output = model(torch.randn(6, 4))
        output[:, 0].square().mean().backward(retain_graph=True)
        output[:, 1].abs().mean().backward()
        optimizer.step()

    return model, optimizer, step
