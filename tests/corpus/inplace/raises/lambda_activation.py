"""An activation given as a lambda clamps in place.

NVlabs/FUNIT#23 has a Lambda module around operations that are given as functions.
"""

import torch
from torch import nn

OUTCOME = "raises"
STEPS = 1
RAISES_IN = "backward"


class _Lambda(nn.Module):
    def __init__(self, operation):
        super().__init__()
        self.operation = operation

    def forward(self, x):
        return self.operation(x)  # saver


def make(is_reference=False):
    in_place = lambda x: x.clamp_(max=0.5)  # noqa: E731 - the case # culprit
    clip = (lambda x: x.clamp(max=0.5)) if is_reference else in_place
    model = nn.Sequential(nn.Linear(4, 8), _Lambda(torch.sigmoid), _Lambda(clip), nn.Linear(8, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def step(_):
        optimizer.zero_grad()
        model(torch.randn(6, 4)).square().mean().backward()
        optimizer.step()

    return model, optimizer, step
