"""The state of one batch goes into the next with its graph; retain_graph=True only moves the failure.

NX-AI/xlstm#96, mlech26l/ncps#62, dmlc/dgl#4285.
"""

import torch
from torch import nn

OUTCOME = "raises"
STEPS = 2
RAISES_IN = "backward"


class _Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.recurrent, self.head = nn.LSTM(4, 8, batch_first=True), nn.Linear(8, 1)

    def forward(self, x, state):
        features, state = self.recurrent(x, state)  # saver
        return self.head(features), state


def make(is_reference=False):
    model = _Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    state = None

    def step(_):
        nonlocal state
        optimizer.zero_grad()
        output, state = model(torch.randn(3, 5, 4), state)
        if is_reference:
            state = tuple(part.detach() for part in state)
        output.square().mean().backward(retain_graph=True)
        optimizer.step()  # culprit

    return model, optimizer, step
