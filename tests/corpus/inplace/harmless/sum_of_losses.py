"""The losses of several heads are added up with `+=`, and divided in place by their number.

The look-alike of dev-jwel's pytorch/pytorch#78140, where the first term was a norm.
"""

import torch
from torch import nn

OUTCOME = "harmless"
STEPS = 2


def make(is_reference=False):
    model = nn.ModuleList(nn.Linear(4, 2) for _ in range(3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def step(_):
        optimizer.zero_grad()
        x, loss = torch.randn(6, 4), torch.zeros(())
        for head in model:
            if is_reference:
                loss = loss + head(x).square().mean()
            else:
                loss += head(x).square().mean()
        if is_reference:
            loss = loss / 3
        else:
            loss /= 3
        loss.backward()
        optimizer.step()

    return model, optimizer, step
