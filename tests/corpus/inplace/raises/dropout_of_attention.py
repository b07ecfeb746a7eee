"""Dropout works in place on the attention's weights, which the softmax and the product need.

pytorch/pytorch#727: activation and dropout, both in place.
"""

import torch
import torch.nn.functional as F  # noqa: N812 - as everybody calls it
from torch import nn

OUTCOME = "raises"
STEPS = 1
RAISES_IN = "backward"


class _Attention(nn.Module):
    def __init__(self, is_reference):
        super().__init__()
        self.is_reference = is_reference
        self.queries, self.keys, self.values = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x):
        scores = self.queries(x) @ self.keys(x).transpose(-2, -1)
        weights = F.softmax(scores, dim=-1)  # saver
        weights = F.dropout(weights, 0.5, self.training, inplace=not self.is_reference)  # culprit
        return weights @ self.values(x)


def make(is_reference=False):
    model = _Attention(is_reference)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)

    def step(_):
        optimizer.zero_grad()
        model(torch.randn(2, 5, 4)).square().mean().backward()
        optimizer.step()

    return model, optimizer, step
