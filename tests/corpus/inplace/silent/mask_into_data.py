"""The attention's mask is written into `.data` after the softmax.

jadore801120/attention-is-all-you-need-pytorch#16 asks whether that is right.
"""

import torch
from torch import nn

OUTCOME = "silent"
STEPS = 1


class _Attention(nn.Module):
    def __init__(self, is_reference):
        super().__init__()
        self.is_reference = is_reference
        self.queries, self.keys, self.values = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x):
        weights = torch.softmax(self.queries(x) @ self.keys(x).transpose(-2, -1), dim=-1)  # saver
        is_future = torch.ones(5, 5, dtype=torch.bool).triu(1)
        if self.is_reference:
            weights = weights.masked_fill(is_future, 0.0)
        else:
            weights.data.masked_fill_(is_future, 0.0)  # culprit
        return weights @ self.values(x)


def make(is_reference=False):
    model = _Attention(is_reference)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)

    def step(_):
        optimizer.zero_grad()
        model(torch.randn(2, 5, 4)).square().mean().backward()
        optimizer.step()

    return model, optimizer, step
