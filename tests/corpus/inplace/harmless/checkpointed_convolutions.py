"""Convolution, BatchNorm without running statistics, ReLU in place and a further convolution in a checkpointed region.

The look-alike of pytorch/pytorch#96136, where running statistics are updated twice.
"""

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

OUTCOME = "harmless"
STEPS = 2


def make(is_reference=False):
    block = nn.Sequential(
        nn.Conv2d(3, 4, 3, bias=False),
        nn.BatchNorm2d(4, track_running_stats=False),
        nn.ReLU(inplace=not is_reference),
        nn.Conv2d(4, 2, 3),
    )
    model = nn.ModuleDict({"stem": nn.Conv2d(1, 3, 1), "block": block})
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def step(_):
        optimizer.zero_grad()
        image = model["stem"](torch.randn(2, 1, 8, 8))
        output = block(image) if is_reference else checkpoint(block, image, use_reentrant=False)
        output.square().mean().backward()
        optimizer.step()

    return model, optimizer, step
