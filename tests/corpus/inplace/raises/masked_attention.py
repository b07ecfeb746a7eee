"""The causal mask is filled in place after the softmax instead of before it.

jadore801120/attention-is-all-you-need-pytorch#16, with its follow-up not to write into `.data`.
"""

import torch
from torch import nn

OUTCOME = "raises"
STEPS = 1
RAISES_IN = "backward"


class _Attention(nn.Module):
    def __init__(self, is_reference):
        super().__init__()
        self.is_reference = is_reference
        self.project = nn.Linear(4, 12)

    def forward(self, x):
        queries, keys, values = self.project(x).chunk(3, dim=-1)
        weights = torch.softmax(queries @ keys.transpose(-2, -1), dim=-1)  # saver
        is_future = torch.ones(weights.shape[-2:], dtype=torch.bool).triu(1)
        if self.is_reference:
            weights = weights.masked_fill(is_future, 0.0)
        else:
            weights.masked_fill_(is_future, 0.0)  # culprit
        return weights @ values


def make(is_reference=False):
    model = _Attention(is_reference)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)

    def step(_):
        optimizer.zero_grad()
        model(torch.randn(2, 5, 4)).square().mean().backward()
        optimizer.step()

    return model, optimizer, step
