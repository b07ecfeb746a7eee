"""A running sum of keys is updated in place while every position's product with it waits for backward.

idiap/fast-transformers#10: in-place updates of the state in recurrent linear attention.
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
        self.queries, self.keys = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x):
        queries, keys = F.elu(self.queries(x)) + 1, F.elu(self.keys(x)) + 1
        total, outputs = torch.zeros(4), []
        for query, key in zip(queries, keys, strict=True):
            if self.is_reference:
                total = total + key
            else:
                total += key  # culprit
            outputs.append(torch.dot(query, total))  # saver
        return torch.stack(outputs)


def make(is_reference=False):
    model = _Attention(is_reference)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def step(_):
        optimizer.zero_grad()
        model(torch.randn(5, 4)).square().mean().backward()
        optimizer.step()

    return model, optimizer, step
