"""The table is used as a matrix before a lookup renormalises rows of it in place.

pytorch/pytorch#26596: swapping the two lines avoids the error.
"""

import torch
from torch import nn

OUTCOME = "raises"
STEPS = 1
RAISES_IN = "backward"


class _Net(nn.Module):
    def __init__(self, is_reference):
        super().__init__()
        self.is_reference = is_reference
        self.embedding = nn.Embedding(5, 4, max_norm=1.0)
        self.projection = nn.Parameter(torch.randn(3, 4))

    def forward(self, indices):
        table = self.embedding.weight.clone() if self.is_reference else self.embedding.weight
        of_all = table @ self.projection.t()  # saver
        of_some = self.embedding(indices)  # culprit
        return of_all.unsqueeze(0) + (of_some @ self.projection.t()).unsqueeze(1)


def make(is_reference=False):
    model = _Net(is_reference)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def step(_):
        optimizer.zero_grad()
        model(torch.tensor([1, 2])).sigmoid().mean().backward()
        optimizer.step()

    return model, optimizer, step
