"""A spectral norm updates its vector in place, and the layer is called twice for one backward.

pytorch/pytorch#13350 and #62293: D(real) - D(fake) with a vector that the second forward changes.
"""

import torch
import torch.nn.functional as F  # noqa: N812 - as everybody calls it
from torch import nn

OUTCOME = "raises"
STEPS = 1
RAISES_IN = "backward"


class _SpectralLinear(nn.Module):
    def __init__(self, is_reference):
        super().__init__()
        self.is_reference = is_reference
        self.weight = nn.Parameter(torch.randn(3, 4))
        self.register_buffer("u", F.normalize(torch.randn(3), dim=0))
        self.register_buffer("v", F.normalize(torch.randn(4), dim=0))

    def forward(self, x):
        with torch.no_grad():
            v = F.normalize(self.weight.t() @ self.u, dim=0)
            u = F.normalize(self.weight @ v, dim=0)
            if self.is_reference:
                self.v, self.u = v, u
            else:
                self.v.copy_(v)  # culprit
                self.u.copy_(u)  # culprit
        sigma = self.u.dot(self.weight.mv(self.v))  # saver
        return F.linear(x, self.weight / sigma)


def make(is_reference=False):
    model = nn.Sequential(_SpectralLinear(is_reference))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.001)

    def step(_):
        optimizer.zero_grad()
        (model(torch.randn(6, 4)).mean() - model(torch.randn(6, 4)).mean()).backward()
        optimizer.step()

    return model, optimizer, step
