"""Three checkpoints around modules of PyTorch's: one of them has a dropout in place behind a softmax.

pytorch/pytorch#193671; no line of the user's is in any region, so that only the calls tell them apart.
"""

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

OUTCOME = "silent"
STEPS = 1


def _layers(is_in_place):
    return nn.Sequential(nn.Linear(8, 8), nn.Softmax(dim=-1), nn.Dropout(0.5, inplace=is_in_place), nn.Linear(8, 8))


class _Net(nn.Module):
    def __init__(self, is_reference):
        super().__init__()
        self.stem = nn.Linear(4, 8)
        self.first, self.second, self.third = _layers(False), _layers(not is_reference), _layers(False)

    def forward(self, x):
        x = checkpoint(self.first, self.stem(x), use_reentrant=False)
        x = checkpoint(self.second, x, use_reentrant=False)  # culprit # saver
        return checkpoint(self.third, x, use_reentrant=False)


def make(is_reference=False):
    model = _Net(is_reference)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def step(_):
        optimizer.zero_grad()
        model(torch.randn(6, 4)).square().mean().backward()
        optimizer.step()

    return model, optimizer, step
