"""Blocks of one class are checkpointed in a loop, and the whole of them once more: all their lines are the same ones.

The look-alike of hpcaitech/ColossalAI#1460 and of pytorch/pytorch#193671.
"""

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

OUTCOME = "harmless"
STEPS = 2


class _Block(nn.Module):
    def __init__(self, is_in_place):
        super().__init__()
        gate = nn.Sequential(nn.Linear(8, 8), nn.SiLU(inplace=is_in_place))
        self.layers = nn.Sequential(nn.LayerNorm(8), gate, nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.1)))
        self.act = nn.ReLU(inplace=is_in_place)

    def forward(self, x):
        return self.act(x + self.layers(x))


class _Tower(nn.Module):
    def __init__(self, is_reference):
        super().__init__()
        self.is_reference = is_reference
        self.stem = nn.Linear(4, 8)
        self.blocks = nn.ModuleList(_Block(is_in_place=not is_reference) for _ in range(3))

    def _run(self, function, x):
        return function(x) if self.is_reference else checkpoint(function, x, use_reentrant=False)

    def _climb(self, x):
        for block in self.blocks:
            x = self._run(block, x)
        return x

    def forward(self, x):
        x = self._climb(self.stem(x))
        return self._run(self._climb, x)


def make(is_reference=False):
    model = _Tower(is_reference)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def step(_):
        optimizer.zero_grad()
        model(torch.randn(6, 4)).square().mean().backward()
        optimizer.step()

    return model, optimizer, step
