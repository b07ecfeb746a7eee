"""A checkpoint around a Sequential whose ReLU works in place between two linear layers, with and without early stop.

The look-alike of pytorch/pytorch#193671: two operators of one kind and of one line, and only one of them is written to.
"""

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint, set_checkpoint_early_stop

OUTCOME = "harmless"
STEPS = 2


def make(is_reference=False):
    layers = nn.Sequential(nn.Linear(8, 8), nn.ReLU(inplace=not is_reference), nn.Linear(8, 8))
    model = nn.ModuleDict({"stem": nn.Linear(4, 8), "layers": layers})
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def step(index):
        optimizer.zero_grad()
        hidden = model["stem"](torch.randn(6, 4))
        with set_checkpoint_early_stop(index == 0):
            output = layers(hidden) if is_reference else checkpoint(layers, hidden, use_reentrant=False)
            output.square().mean().backward()
        optimizer.step()

    return model, optimizer, step
