"""Saved tensors go to the CPU, where they are already: what is kept is the tensor itself, without a check.

pytorch/pytorch#62362 describes the hooks; NVIDIA/TransformerEngine#571 and others offload activations with them.
"""

import torch
from torch import nn

OUTCOME = "silent"
STEPS = 1


class _Net(nn.Module):
    def __init__(self, is_reference):
        super().__init__()
        self.is_reference = is_reference
        self.layer = nn.Linear(4, 8)

    def forward(self, x):
        with torch.autograd.graph.save_on_cpu():
            gate = torch.sigmoid(self.layer(x))  # saver
            if self.is_reference:
                return gate * 3.0
            gate *= 3.0  # culprit
            return gate


def make(is_reference=False):
    model = _Net(is_reference)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def step(_):
        optimizer.zero_grad()
        output = model(torch.randn(6, 4))
        output.square().mean().backward()
        optimizer.step()

    return model, optimizer, step
