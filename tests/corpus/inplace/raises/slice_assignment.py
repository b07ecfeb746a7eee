"""Each time step reads the slice that the one before wrote, of the same tensor.

Seanny123/da-rnn#14 and pytorch/pytorch#114505: one version counter for all slices of a tensor.
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
        self.cell = nn.Linear(4, 4)

    def forward(self, x):
        if self.is_reference:
            columns = [x]
            for _ in range(3):
                columns.append(torch.tanh(self.cell(columns[-1])))
            return torch.stack(columns[1:], dim=1)
        states = torch.zeros(len(x), 4, 4)
        states[:, 0] = x
        for time in range(1, 4):
            update = self.cell(states[:, time - 1])  # saver
            states[:, time] = torch.tanh(update)  # culprit
        return states[:, 1:]


def make(is_reference=False):
    model = _Net(is_reference)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def step(_):
        optimizer.zero_grad()
        output = model(torch.randn(6, 4))
        output.square().mean().backward()
        optimizer.step()

    return model, optimizer, step
