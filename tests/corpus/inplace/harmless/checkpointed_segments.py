"""checkpoint_sequential around layers with activations in place: no line of the user's is in any region.

The look-alike of hpcaitech/ColossalAI#1460.
"""

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint_sequential

OUTCOME = "harmless"
STEPS = 2


def make(is_reference=False):
    in_place = not is_reference
    model = nn.Sequential(
        nn.Linear(4, 8), nn.ReLU(inplace=in_place), nn.Linear(8, 8), nn.LeakyReLU(inplace=in_place), nn.Linear(8, 8),
        nn.ReLU(inplace=in_place), nn.Linear(8, 8), nn.Hardtanh(inplace=in_place), nn.Linear(8, 1),
    )  # fmt: skip
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def step(_):
        optimizer.zero_grad()
        inputs = torch.randn(6, 4)
        output = model(inputs) if is_reference else checkpoint_sequential(model, 2, inputs, use_reentrant=False)
        output.square().mean().backward()
        optimizer.step()

    return model, optimizer, step
