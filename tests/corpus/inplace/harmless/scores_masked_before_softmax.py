"""The mask is filled in place into scaled scores, which nothing has saved, before the softmax.

The look-alike of jadore801120/attention-is-all-you-need-pytorch#16.
"""

import torch
from torch import nn

OUTCOME = "harmless"
STEPS = 2


class _Attention(nn.Module):
    def __init__(self, is_reference):
        super().__init__()
        self.is_reference = is_reference
        self.project = nn.Linear(4, 12)

    def forward(self, x):
        queries, keys, values = self.project(x).chunk(3, dim=-1)
        is_future = torch.ones(5, 5, dtype=torch.bool).triu(1)
        scores = queries @ keys.transpose(-2, -1)
        if self.is_reference:
            scores = (scores * 0.5).masked_fill(is_future, float("-inf"))
        else:
            scores *= 0.5
            scores.masked_fill_(is_future, float("-inf"))
        return torch.softmax(scores, dim=-1) @ values


def make(is_reference=False):
    model = _Attention(is_reference)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)

    def step(_):
        optimizer.zero_grad()
        model(torch.randn(2, 5, 4)).square().mean().backward()
        optimizer.step()

    return model, optimizer, step
