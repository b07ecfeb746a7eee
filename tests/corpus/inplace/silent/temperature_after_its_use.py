"""A checkpointed region changes a buffer after it has multiplied by it: the recomputation multiplies by another value.

pytorch/pytorch#155171: state that the forward changes is read by the recomputation.
"""

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

OUTCOME = "silent"
STEPS = 1


class _Region(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.head = nn.Linear(8, 8), nn.Linear(8, 1)
        self.register_buffer("temperature", torch.ones(1))

    def forward(self, x):
        hidden = self.layer(x) * self.temperature  # saver
        self.temperature *= 0.5  # culprit
        return self.head(torch.tanh(hidden))


def make(is_reference=False):
    stem, region = nn.Linear(4, 8), _Region()
    optimizer = torch.optim.SGD([*stem.parameters(), *region.parameters()], lr=0.1)

    def call(x):
        if not is_reference:
            return checkpoint(region, x, use_reentrant=False)
        before = region.temperature.clone()
        region.temperature = region.temperature.clone()
        output = region.head(torch.tanh(region.layer(x) * before))
        region.temperature *= 0.5
        return output

    def step(_):
        optimizer.zero_grad()
        call(stem(torch.randn(6, 4))).square().mean().backward()
        optimizer.step()

    return nn.ModuleDict({"stem": stem, "region": region}), optimizer, step
