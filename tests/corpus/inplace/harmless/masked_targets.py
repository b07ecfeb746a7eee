"""Targets and boolean masks are changed in place before the forward and after the backward.

The look-alike of aladdinpersson/Machine-Learning-Collection#87: targets, not predictions.
"""

import torch
from torch import nn

OUTCOME = "harmless"
STEPS = 2


def make(is_reference=False):
    model = nn.Linear(4, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def step(_):
        optimizer.zero_grad()
        targets, x = torch.randint(4, (8,)), torch.randn(8, 4)
        is_kept = torch.ones(8, dtype=torch.bool)
        if is_reference:
            targets = torch.where(targets == 3, -100, targets)
            is_kept = is_kept & (x[:, 0] > -1)
        else:
            targets[targets == 3] = -100
            is_kept &= x[:, 0] > -1
        logits = model(x)[is_kept]
        loss = nn.functional.cross_entropy(logits, targets[is_kept])
        loss.backward()
        is_kept.fill_(False)
        optimizer.step()

    return model, optimizer, step
