"""A recurrent cell keeps its hidden state on itself from step to step.

vikrant7/mobile-vod-bottleneck-lstm#25 and norse/norse#163: detach_hidden() belongs into the inner loop.
"""

import torch
from torch import nn

OUTCOME = "raises"
STEPS = 2
RAISES_IN = "backward"


class _Cell(nn.Module):
    def __init__(self):
        super().__init__()
        self.from_input, self.from_hidden = nn.Linear(4, 8), nn.Linear(8, 8)
        self.hidden = None

    def forward(self, x):
        if self.hidden is None:
            self.hidden = torch.ones(len(x), 8)
        mixed = self.from_input(x) + self.from_hidden(torch.tanh(self.from_hidden(self.hidden)))  # saver
        self.hidden = torch.tanh(mixed)
        return self.hidden


def make(is_reference=False):
    model = nn.ModuleDict({"cell": _Cell(), "head": nn.Linear(8, 1)})
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)

    def step(_):
        optimizer.zero_grad()
        loss = model["head"](model["cell"](torch.randn(3, 4))).square().mean()
        loss.backward(retain_graph=True)
        optimizer.step()  # culprit
        if is_reference:
            model["cell"].hidden = model["cell"].hidden.detach()

    return model, optimizer, step
