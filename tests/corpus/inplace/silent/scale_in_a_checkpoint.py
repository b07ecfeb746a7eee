"""A checkpointed region changes the buffer that it divides by: the recomputation divides by another value.

pytorch/pytorch#155171: state that the forward changes is changed again by the recomputation.
"""

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

OUTCOME = "silent"
STEPS = 1


class _Region(nn.Module):
    def __init__(self, is_reference):
        super().__init__()
        self.is_reference = is_reference
        self.layer = nn.Linear(8, 8)
        self.register_buffer("num_calls", torch.zeros(1))

    def forward(self, x):
        if self.is_reference:
            return self.layer(x) / (self.num_calls + 1.0)
        self.num_calls += 1.0  # culprit
        return self.layer(x) / self.num_calls  # saver


def make(is_reference=False):
    stem, region = nn.Linear(4, 8), _Region(is_reference)
    optimizer = torch.optim.SGD([*stem.parameters(), *region.parameters()], lr=0.1)

    def step(_):
        optimizer.zero_grad()
        checkpoint(region, stem(torch.randn(6, 4)), use_reentrant=False).square().mean().backward()
        optimizer.step()

    return nn.ModuleDict({"stem": stem, "region": region}), optimizer, step
