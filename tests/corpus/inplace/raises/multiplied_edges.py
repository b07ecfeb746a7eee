"""Edge features are scaled in place after they were an operand of a product.

hqucms/weaver#13: `var1 *= var2` became `var1 = var1 * var2`.
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
        self.edges, self.gate = nn.Linear(4, 8), nn.Linear(4, 8)

    def forward(self, x):
        edges, gate = self.edges(x), self.gate(x)
        gated = edges * gate  # saver
        if self.is_reference:
            edges = edges * 0.5
        else:
            edges *= 0.5  # culprit
        return gated + edges


def make(is_reference=False):
    model = _Net(is_reference)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def step(_):
        optimizer.zero_grad()
        output = model(torch.randn(6, 4))
        output.square().mean().backward()
        optimizer.step()

    return model, optimizer, step
