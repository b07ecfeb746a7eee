"""Both variants of checkpointing around blocks whose in-place ReLU follows a linear layer.

The look-alike of hpcaitech/ColossalAI#1460.
"""

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

OUTCOME = "harmless"
STEPS = 2


class _Net(nn.Module):
    def __init__(self, is_reference):
        super().__init__()
        self.stem = nn.Linear(4, 8)
        self.first, self.second = (
            nn.Sequential(nn.Linear(8, 8), nn.ReLU(inplace=not is_reference), nn.Dropout(0.2)) for _ in range(2)
        )

    def forward(self, x):
        x = checkpoint(self.first, self.stem(x), use_reentrant=False)
        return checkpoint(self.second, x, use_reentrant=True)


def make(is_reference=False):
    model = _Net(is_reference)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def step(_):
        optimizer.zero_grad()
        output = model(torch.randn(6, 4))
        output.square().mean().backward()
        optimizer.step()

    return model, optimizer, step
