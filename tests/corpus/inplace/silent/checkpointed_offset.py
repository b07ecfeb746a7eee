"""An offset is added in place to an exponential within a checkpointed region.

pytorch/pytorch#193671 for the variant without a check, iMED-Lab/ER-Net#3 for the operation.
"""

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

OUTCOME = "silent"
STEPS = 1


class _Net(nn.Module):
    def __init__(self, is_reference):
        super().__init__()
        self.is_reference = is_reference
        self.stem, self.layer, self.head = nn.Linear(4, 8), nn.Linear(8, 8), nn.Linear(8, 1)

    def forward(self, x):
        def region(h):
            rate = torch.exp(self.layer(h))  # saver
            if self.is_reference:
                rate = rate + 1.0
            else:
                rate += 1.0  # culprit
            return self.head(rate)

        return checkpoint(region, self.stem(x), use_reentrant=False)


def make(is_reference=False):
    model = _Net(is_reference)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def step(_):
        optimizer.zero_grad()
        output = model(torch.randn(6, 4))
        output.square().mean().backward()
        optimizer.step()

    return model, optimizer, step
