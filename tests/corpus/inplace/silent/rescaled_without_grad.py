"""An activation is rescaled under no_grad, so that its graph knows nothing of the factor.

From this project's issue 4; no public report of its own was found.
"""

import torch
from torch import nn

OUTCOME = "silent"
STEPS = 1


class _Net(nn.Module):
    def __init__(self, is_reference):
        super().__init__()
        self.is_reference = is_reference
        self.layer, self.head = nn.Linear(4, 8), nn.Linear(8, 1)

    def forward(self, x):
        hidden = self.layer(x)
        if self.is_reference:
            hidden = hidden * 0.25
        else:
            with torch.no_grad():
                hidden.mul_(0.25)  # culprit
        return self.head(hidden)


def make(is_reference=False):
    model = _Net(is_reference)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def step(_):
        optimizer.zero_grad()
        output = model(torch.randn(6, 4))
        output.square().mean().backward()
        optimizer.step()

    return model, optimizer, step
