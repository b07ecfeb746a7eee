"""Embeddings are divided in place by their own norm: one statement saves and modifies.

huggingface/transformers#24525 (OwlViT) and lzx1413/PytorchSSD#72: `x /= norm` became `x = x / norm`.
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
        self.project = nn.Linear(4, 8)

    def forward(self, x):
        embeddings = self.project(x)
        if self.is_reference:
            embeddings = embeddings / torch.linalg.norm(embeddings, dim=-1, keepdim=True)
        else:
            embeddings /= torch.linalg.norm(embeddings, dim=-1, keepdim=True)  # culprit # saver
        return embeddings @ embeddings.t()


def make(is_reference=False):
    model = _Net(is_reference)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def step(_):
        optimizer.zero_grad()
        output = model(torch.randn(6, 4))
        output.square().mean().backward()
        optimizer.step()

    return model, optimizer, step
