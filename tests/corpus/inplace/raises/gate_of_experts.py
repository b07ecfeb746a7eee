"""All but the best experts are scattered to zero in the gate that the softmax still needs.

davidmrau/mixture-of-experts#32 on softmax before top-k; wrong in place as in pytorch/pytorch#9391.
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
        self.router = nn.Linear(4, 4)
        self.experts = nn.ModuleList(nn.Linear(4, 2) for _ in range(4))

    def forward(self, x):
        gate = self.router(x).softmax(dim=-1)  # saver
        worst = gate.topk(2, dim=-1, largest=False).indices
        if self.is_reference:
            gate = gate.scatter(1, worst, 0.0)
        else:
            gate.scatter_(1, worst, 0.0)  # culprit
        outputs = torch.stack([expert(x) for expert in self.experts], dim=1)
        return (gate.unsqueeze(-1) * outputs).sum(dim=1)


def make(is_reference=False):
    model = _Net(is_reference)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def step(_):
        optimizer.zero_grad()
        output = model(torch.randn(6, 4))
        output.square().mean().backward()
        optimizer.step()

    return model, optimizer, step
