"""Probabilities for a chart are normalised in place after exp, with a graph that nobody runs backward.

The look-alike of pytorch/pytorch#9391: it would fail if a loss went through it.
"""

import torch
from torch import nn

OUTCOME = "harmless"
STEPS = 2


class _Net(nn.Module):
    def __init__(self, is_reference):
        super().__init__()
        self.is_reference = is_reference
        self.layer = nn.Linear(4, 3)

    def forward(self, x):
        logits = self.layer(x)
        if not self.is_reference:
            shown = torch.exp(logits)
            shown /= shown.sum(dim=-1, keepdim=True)
            self.shown = shown.tolist()
        return logits


def make(is_reference=False):
    model = _Net(is_reference)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def step(_):
        optimizer.zero_grad()
        output = model(torch.randn(6, 4))
        output.square().mean().backward()
        optimizer.step()

    return model, optimizer, step
