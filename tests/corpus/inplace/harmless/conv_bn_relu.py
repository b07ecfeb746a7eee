"""Convolution, BatchNorm and a ReLU in place, as in torchvision.

pytorch/vision#807: the places where the in-place ReLU is used are safe.
"""

import torch
from torch import nn

OUTCOME = "harmless"
STEPS = 2


def make(is_reference=False):
    model = nn.Sequential(
        nn.Conv2d(1, 4, kernel_size=3, padding=1, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(inplace=not is_reference),
        nn.Conv2d(4, 4, kernel_size=3, padding=1, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU6(inplace=not is_reference),
        nn.Flatten(),
        nn.Linear(64, 2),
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

    def step(_):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(torch.randn(3, 1, 4, 4)), torch.tensor([0, 1, 0])).backward()
        optimizer.step()

    return model, optimizer, step
