"""The loss takes roots of widths and heights and writes them into the predictions that it read them from.

aladdinpersson/Machine-Learning-Collection#87: the loss of a YOLO.
"""

import torch
from tests.corpus.inplace._losses import BoxLoss
from torch import nn

OUTCOME = "raises"
STEPS = 1
RAISES_IN = "backward"
ALSO = ("_losses.py",)


def make(is_reference=False):
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 5))
    criterion = BoxLoss(is_reference=is_reference)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)

    def step(_):
        optimizer.zero_grad()
        criterion(model(torch.randn(6, 4)), torch.rand(6, 5)).backward()
        optimizer.step()

    return model, optimizer, step
