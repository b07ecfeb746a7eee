"""A BatchNorm is called twice for one backward; its own running statistics do not count.

The look-alike of pytorch/pytorch#175024, without anything that copies buffers.
"""

import torch
from torch import nn

OUTCOME = "harmless"
STEPS = 3


def make():
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.LeakyReLU(0.2, inplace=True), nn.Linear(8, 1))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)

    def step(_):
        optimizer.zero_grad()
        (model(torch.randn(6, 4)).mean() - model(torch.randn(6, 4)).mean()).backward()
        optimizer.step()

    return model, optimizer, step
