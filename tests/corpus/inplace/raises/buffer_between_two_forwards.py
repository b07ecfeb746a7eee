"""A buffer that takes part in the product is copied over between two forwards with one backward.

pytorch/pytorch#22095: what DistributedDataParallel does to buffers when it is called twice.
"""

import torch
from torch import nn

OUTCOME = "raises"
STEPS = 1
RAISES_IN = "backward"


class _Scaled(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 8)
        self.register_buffer("scale", torch.ones(8))

    def forward(self, x):
        return self.layer(x) * self.scale  # saver


def _synchronise(model, buffers, is_reference):
    for name, received in buffers.items():
        if is_reference:
            setattr(model, name, received)
        else:
            getattr(model, name).copy_(received)  # culprit


def make(is_reference=False):
    model = _Scaled()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def step(_):
        optimizer.zero_grad()
        first = model(torch.randn(6, 4))
        _synchronise(model, {"scale": torch.ones(8)}, is_reference)
        second = model(torch.randn(6, 4))
        (first - second).square().mean().backward()
        optimizer.step()

    return model, optimizer, step
