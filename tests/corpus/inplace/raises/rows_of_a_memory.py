"""Rows of a memory are used one by one, and new features overwrite the oldest row before backward.

NVlabs/FUNIT#23, where a memory module is asked about; lightly-ai/lightly#993 keeps such a bank as a buffer.
"""

import torch
from torch import nn

OUTCOME = "raises"
STEPS = 1
RAISES_IN = "backward"


class _Memory(nn.Module):
    def __init__(self, is_reference):
        super().__init__()
        self.is_reference = is_reference
        self.layer = nn.Linear(4, 8)
        self.register_buffer("bank", torch.ones(3, 8))

    def forward(self, x):
        features = self.layer(x)
        similarities = [(features * row).sum(dim=-1) for row in self.bank.unbind(dim=0)]  # saver
        if self.is_reference:
            self.bank = self.bank.clone()
        self.bank[0] = features.detach().mean(dim=0)  # culprit
        return torch.stack(similarities)


def make(is_reference=False):
    model = _Memory(is_reference)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def step(_):
        optimizer.zero_grad()
        model(torch.randn(6, 4)).square().mean().backward()
        optimizer.step()

    return model, optimizer, step
