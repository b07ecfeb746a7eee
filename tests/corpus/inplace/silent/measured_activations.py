"""The user's own hooks only add up the bytes that are saved, and switch PyTorch's check off.

pytorch/pytorch#61834 and #62717: default hooks for saved tensors.
"""

import torch
from torch import nn

OUTCOME = "silent"
STEPS = 1


class _Measured(nn.Module):
    def __init__(self, is_reference):
        super().__init__()
        self.is_reference = is_reference
        self.layer = nn.Linear(4, 8)
        self.num_bytes = 0

    def _pack(self, tensor):
        self.num_bytes += tensor.nbytes
        return tensor

    def forward(self, x):
        with torch.autograd.graph.saved_tensors_hooks(self._pack, lambda tensor: tensor):
            hidden = torch.tanh(self.layer(x))  # saver
            if self.is_reference:
                return hidden - hidden.detach().mean(dim=0)
            hidden -= hidden.detach().mean(dim=0)  # culprit
            return hidden


def make(is_reference=False):
    model = _Measured(is_reference)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def step(_):
        optimizer.zero_grad()
        model(torch.randn(6, 4)).square().mean().backward()
        optimizer.step()

    return model, optimizer, step
