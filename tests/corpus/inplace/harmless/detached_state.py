"""An LSTM's state goes from batch to batch, detached, and rows of it are reset in place.

The fix of NX-AI/xlstm#96.
"""

import torch
from torch import nn

OUTCOME = "harmless"
STEPS = 3


def make():
    model = nn.ModuleDict({"recurrent": nn.LSTM(4, 8, batch_first=True), "head": nn.Linear(8, 1)})
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    state = None

    def step(_):
        nonlocal state
        optimizer.zero_grad()
        features, state = model["recurrent"](torch.randn(3, 5, 4), state)
        model["head"](features).square().mean().backward()
        optimizer.step()
        state = tuple(part.detach() for part in state)
        state[0][:, 0] = 0.0

    return model, optimizer, step
