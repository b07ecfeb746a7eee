"""One chain of calls over several lines: saved on one of them, modified on another.

bhpfelix/Variational-Autoencoder-PyTorch#1: `.mul(0.5).exp_()` in the reparametrisation, here with one call more.
"""

import torch
from torch import nn

OUTCOME = "raises"
STEPS = 1
RAISES_IN = "backward"


class _Net(nn.Module):
    def __init__(self, is_reference):
        super().__init__()
        self.is_reference = is_reference
        self.mean, self.log_variance = nn.Linear(4, 2), nn.Linear(4, 2)

    def forward(self, x):
        if self.is_reference:
            deviation = self.log_variance(x).mul(0.5).exp().add(1e-3)
        else:
            deviation = (
                self.log_variance(x)
                .mul(0.5)
                .exp_()  # saver
                .add_(1e-3)  # culprit
            )
        return self.mean(x) + deviation * torch.randn(len(x), 2)


def make(is_reference=False):
    model = _Net(is_reference)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def step(_):
        optimizer.zero_grad()
        output = model(torch.randn(6, 4))
        output.square().mean().backward()
        optimizer.step()

    return model, optimizer, step
