"""Attention weights are rounded down for a chart, through a detached alias, in a checkpointed region.

pytorch/pytorch#6990 for the alias, pytorch/pytorch#193671 for the lost check.
"""

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

OUTCOME = "silent"
STEPS = 1


class _Attention(nn.Module):
    def __init__(self, is_reference):
        super().__init__()
        self.is_reference = is_reference
        self.stem, self.project = nn.Linear(4, 4), nn.Linear(4, 12)

    def attend(self, x):
        queries, keys, values = self.project(x).chunk(3, dim=-1)
        weights = torch.softmax(queries @ keys.transpose(-2, -1), dim=-1)  # saver
        shown = weights.detach()
        if self.is_reference:
            weights = weights - torch.where(shown < 0.2, shown, 0.0)
        else:
            shown[shown < 0.2] = 0.0  # culprit
        return weights @ values

    def forward(self, x):
        return checkpoint(self.attend, self.stem(x), use_reentrant=False)


def make(is_reference=False):
    model = _Attention(is_reference)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)

    def step(_):
        optimizer.zero_grad()
        model(torch.randn(2, 5, 4)).square().mean().backward()
        optimizer.step()

    return model, optimizer, step
