"""Four small batches are accumulated for one step; each loss is divided in place.

The look-alike of the losses that hijkzzz/pymarl2#46 goes through several times.
"""

import torch
from torch import nn

OUTCOME = "harmless"
STEPS = 2


def make(is_reference=False):
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)

    def step(_):
        optimizer.zero_grad()
        for _ in range(4):
            loss = model(torch.randn(3, 4)).square().mean()
            if is_reference:
                loss = loss / 4
            else:
                loss /= 4
            loss.backward()
        optimizer.step()

    return model, optimizer, step
