"""The running statistics are received from elsewhere between the forward on fakes and the one on reals.

pytorch/pytorch#175024 and #66504: the buffers of a BatchNorm in a discriminator that is called twice.
"""

import torch
from torch import nn

OUTCOME = "raises"
STEPS = 1
RAISES_IN = "backward"


def _broadcast(model, is_reference):
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d):
            mean = torch.zeros(8)
            if is_reference:
                module.running_mean = mean
            else:
                module.running_mean.copy_(mean)  # culprit


def make(is_reference=False):
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.LeakyReLU(0.2), nn.Linear(8, 1))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)

    def step(_):
        optimizer.zero_grad()
        on_fake = model(torch.randn(6, 4))  # saver
        _broadcast(model, is_reference)
        on_real = model(torch.randn(6, 4))
        (on_fake.mean() - on_real.mean()).backward()
        optimizer.step()

    return model, optimizer, step
