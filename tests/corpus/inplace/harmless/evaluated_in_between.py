"""An evaluation under no_grad and under inference_mode changes everything in place, between forward and backward.

The look-alike of all of them: without a graph nothing is saved.
"""

import torch
from torch import nn

OUTCOME = "harmless"
STEPS = 2


def _evaluate(model, x):
    scores = torch.exp(model(x))
    scores += 1.0
    scores[scores < 2.0] = 0.0
    scores /= scores.norm()
    torch.nn.functional.dropout(scores, 0.5, inplace=True)


def make():
    model = nn.Sequential(nn.Linear(4, 8), nn.Sigmoid(), nn.Linear(8, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def step(_):
        optimizer.zero_grad()
        loss = model(torch.randn(6, 4)).square().mean()
        with torch.no_grad():
            _evaluate(model, torch.randn(6, 4))
        with torch.inference_mode():
            _evaluate(model, torch.randn(6, 4))
        loss.backward()
        optimizer.step()

    return model, optimizer, step
