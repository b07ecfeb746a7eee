"""The second loss shares the graph of the first, whose optimizer has stepped in between.

1Konny/FactorVAE#15: retain_graph=True, then a second backward after the step.
"""

import torch
from torch import nn

OUTCOME = "raises"
STEPS = 1
RAISES_IN = "backward"


class _Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))
        self.decoder = nn.Linear(2, 4)

    def forward(self, x):
        code = self.encoder(x)  # saver
        return self.decoder(code), code


def make(is_reference=False):
    model = _Net()
    reconstruct = torch.optim.SGD(model.parameters(), lr=0.1)

    def step(_):
        reconstruct.zero_grad()
        x = torch.randn(6, 4)
        output, code = model(x)
        (output - x).square().mean().backward(retain_graph=True)
        if not is_reference:
            reconstruct.step()  # culprit
        code.square().mean().backward()
        reconstruct.step()

    return model, reconstruct, step
