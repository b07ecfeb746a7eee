"""An offset is added to an exponential as the last act of a checkpointed region, which the recomputation never reaches.

The look-alike of pytorch/pytorch#193671, whose comments ask for coverage of the early stop.
"""

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

OUTCOME = "harmless"
STEPS = 2
DOUBTFUL = "the recomputation stops before the line, with early_stop=False gradients are wrong"


class _Net(nn.Module):
    def __init__(self, is_reference):
        super().__init__()
        self.is_reference = is_reference
        self.stem, self.layer = nn.Linear(4, 8), nn.Linear(8, 8)

    def region(self, x):
        rate = torch.exp(self.layer(x))
        if self.is_reference:
            rate = rate + 1.0
        else:
            rate += 1.0
        return rate

    def forward(self, x):
        return checkpoint(self.region, self.stem(x), use_reentrant=False)


def make(is_reference=False):
    model = _Net(is_reference)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def step(_):
        optimizer.zero_grad()
        output = model(torch.randn(6, 4))
        output.square().mean().backward()
        optimizer.step()

    return model, optimizer, step
