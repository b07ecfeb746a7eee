"""Rows are picked by a boolean mask, which indexing saves, and the mask is reset before backward.

The integer side of pytorch/pytorch#9391 and pytorch/pytorch#20612: a saved tensor that is no number.
"""

import torch
from torch import nn

OUTCOME = "raises"
STEPS = 1
RAISES_IN = "backward"


def make(is_reference=False):
    model = nn.Linear(4, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    is_kept = torch.zeros(8, dtype=torch.bool)

    def step(_):
        optimizer.zero_grad()
        x, targets = torch.randn(8, 4), torch.randint(3, (8,))
        is_kept[x[:, 0] > -1] = True
        logits = model(x)[is_kept]  # saver
        loss = nn.functional.cross_entropy(logits, targets[is_kept])
        if not is_reference:
            is_kept.fill_(False)  # culprit
        loss.backward()
        is_kept.fill_(False)
        optimizer.step()

    return model, optimizer, step
