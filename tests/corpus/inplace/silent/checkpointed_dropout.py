"""Attention under non-reentrant checkpointing, with dropout in place on the softmax's output.

pytorch/pytorch#193671: under this variant a saved tensor that was changed in place is not noticed.
"""

import torch
import torch.nn.functional as F  # noqa: N812 - as everybody calls it
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
        weights = F.dropout(weights, 0.3, inplace=not self.is_reference)  # culprit
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
