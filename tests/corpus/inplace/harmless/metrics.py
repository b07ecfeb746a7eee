"""Accumulators of metrics are updated in place from detached values, integers and under no_grad.

A training loop as in ndrplz/ConvLSTM_pytorch#21 and everywhere else, with its bookkeeping.
"""

import torch
from torch import nn

OUTCOME = "harmless"
STEPS = 2


def make(is_reference=False):
    model = nn.Linear(4, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    total, correct, confusion = torch.zeros(()), torch.zeros((), dtype=torch.long), torch.zeros(3, 3)

    def step(_):
        optimizer.zero_grad()
        targets = torch.randint(3, (6,))
        logits = model(torch.randn(6, 4))
        loss = nn.functional.cross_entropy(logits, targets)
        if not is_reference:
            total.add_(loss.detach())
            predicted = logits.argmax(dim=-1)
            correct.add_((predicted == targets).sum())
            confusion[targets, predicted] += 1
            confusion.mul_(0.99)
            with torch.no_grad():
                shown = logits.softmax(dim=-1)
                shown[shown < 0.1] = 0.0
                shown /= shown.sum(dim=-1, keepdim=True)
        loss.backward()
        optimizer.step()

    return model, optimizer, step
