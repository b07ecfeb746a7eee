"""What was saved for backward is changed when backward is over: activations, prototypes, the batch itself.

The look-alike of martinarjovsky/WassersteinGAN#50: the same writes, later.
"""

import torch
from torch import nn

OUTCOME = "harmless"
STEPS = 3


class _Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.prototypes = nn.Linear(4, 8), nn.Linear(8, 3, bias=False)

    def forward(self, x):
        self.hidden = torch.tanh(self.layer(x))
        return self.prototypes(self.hidden)


def make():
    model = _Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def step(_):
        optimizer.zero_grad()
        x = torch.randn(6, 4)
        model(x).square().mean().backward()
        x.zero_()
        model.hidden.detach().mul_(0.5)
        optimizer.step()
        with torch.no_grad():
            model.prototypes.weight.copy_(nn.functional.normalize(model.prototypes.weight, dim=1))
        model.layer.weight.data.clamp_(-1.0, 1.0)

    return model, optimizer, step
