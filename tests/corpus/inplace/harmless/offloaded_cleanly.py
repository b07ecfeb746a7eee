"""save_on_cpu and the user's own hooks around a forward whose in-place operations touch nothing that was saved.

The look-alike of pytorch/pytorch#62362.
"""

import torch
from torch import nn

OUTCOME = "harmless"
STEPS = 2


class _Net(nn.Module):
    def __init__(self, is_reference):
        super().__init__()
        self.is_reference = is_reference
        self.layer, self.head = nn.Linear(4, 8), nn.Linear(8, 8)

    def forward(self, x):
        graph = torch.autograd.graph
        with graph.save_on_cpu(), graph.saved_tensors_hooks(lambda tensor: tensor.clone(), lambda packed: packed):
            x = self.layer(x)
            if self.is_reference:
                x = torch.relu(x + 1.0)
            else:
                x += 1.0
                x.relu_()
            return self.head(x)


def make(is_reference=False):
    model = _Net(is_reference)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def step(_):
        optimizer.zero_grad()
        output = model(torch.randn(6, 4))
        output.square().mean().backward()
        optimizer.step()

    return model, optimizer, step
