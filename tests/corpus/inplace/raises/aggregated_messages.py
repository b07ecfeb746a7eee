"""Messages are added in place to node features that came out of a ReLU.

pyg-team/pytorch_geometric#7283 and #5353: scatter and index_add_ on what backward needs.
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
        self.nodes, self.messages = nn.Linear(4, 8), nn.Linear(4, 8)

    def forward(self, x):
        source, target = torch.tensor([0, 1, 2, 3]), torch.tensor([1, 1, 4, 5])
        nodes = self.nodes(x).relu()  # saver
        messages = self.messages(x[source])
        if self.is_reference:
            return nodes.index_add(0, target, messages)
        nodes.index_add_(0, target, messages)  # culprit
        return nodes


def make(is_reference=False):
    model = _Net(is_reference)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def step(_):
        optimizer.zero_grad()
        output = model(torch.randn(6, 4))
        output.square().mean().backward()
        optimizer.step()

    return model, optimizer, step
