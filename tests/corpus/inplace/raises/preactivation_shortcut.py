"""The shortcut has read x before the residual branch rectifies it in place.

pytorch/pytorch#15428: the order of the two lines decides whether it fails.
"""

import torch
from torch import nn

OUTCOME = "raises"
STEPS = 1
RAISES_IN = "backward"


class _Block(nn.Module):
    def __init__(self, is_reference):
        super().__init__()
        self.shortcut = nn.Conv2d(3, 6, kernel_size=1)
        self.residual = nn.Sequential(
            nn.ReLU(inplace=not is_reference),
            nn.Conv2d(3, 6, kernel_size=3, padding=1),
        )

    def forward(self, image):
        shortcut = self.shortcut(image)  # saver
        residual = self.residual(image)  # culprit
        return shortcut + residual


def make(is_reference=False):
    model = nn.Sequential(nn.Conv2d(1, 3, kernel_size=1), _Block(is_reference))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def step(_):
        optimizer.zero_grad()
        model(torch.randn(2, 1, 4, 4)).square().mean().backward()
        optimizer.step()

    return model, optimizer, step
