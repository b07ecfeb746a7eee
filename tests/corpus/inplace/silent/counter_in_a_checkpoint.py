"""The tokens of each expert are counted in a checkpointed region, twice: gradients are right, the counts are not.

pytorch/torchtitan#1974 has such counts in a layer of experts, pytorch/pytorch#96136 the same for BatchNorm.
"""

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

OUTCOME = "silent"
STEPS = 1
WRONG = "buffers"


class _Experts(nn.Module):
    def __init__(self):
        super().__init__()
        self.router, self.layer = nn.Linear(8, 2), nn.Linear(8, 8)
        self.register_buffer("num_tokens", torch.zeros(2))

    def forward(self, x):
        gate = self.router(x).softmax(dim=-1)
        counts = gate.argmax(dim=-1).bincount(minlength=2)
        self.num_tokens += counts  # culprit
        return torch.tanh(self.layer(x)) * gate[:, :1]


def make(is_reference=False):
    stem, experts = nn.Linear(4, 8), _Experts()
    optimizer = torch.optim.SGD([*stem.parameters(), *experts.parameters()], lr=0.1)

    def step(_):
        optimizer.zero_grad()
        hidden = stem(torch.randn(6, 4))
        output = experts(hidden) if is_reference else checkpoint(experts, hidden, use_reentrant=False)
        output.square().mean().backward()
        optimizer.step()

    return nn.ModuleDict({"stem": stem, "experts": experts}), optimizer, step
