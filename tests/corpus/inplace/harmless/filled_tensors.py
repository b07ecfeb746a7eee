"""Fresh tensors are filled: noise, a canvas of zeros by slices and by index, a causal mask.

The look-alike of pytorch/pytorch#114505: nothing has read what is overwritten.
"""

import torch
from torch import nn

OUTCOME = "harmless"
STEPS = 2


class _Net(nn.Module):
    def __init__(self, is_reference):
        super().__init__()
        self.is_reference = is_reference
        self.left, self.right = nn.Linear(4, 2), nn.Linear(4, 2)

    def forward(self, x):
        left, right = torch.tanh(self.left(x)), torch.sigmoid(self.right(x))
        noise = torch.empty(len(x), 4).normal_().mul_(0.1)
        if self.is_reference:
            return torch.cat((left, right), dim=-1) + noise
        canvas = torch.zeros(len(x), 4)
        canvas[:, :2] = left
        canvas.index_copy_(1, torch.tensor([2, 3]), right)
        return canvas + noise


def make(is_reference=False):
    model = _Net(is_reference)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def step(_):
        optimizer.zero_grad()
        output = model(torch.randn(6, 4))
        output.square().mean().backward()
        optimizer.step()

    return model, optimizer, step
