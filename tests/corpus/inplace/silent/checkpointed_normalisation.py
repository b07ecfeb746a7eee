"""Embeddings are divided by their norm in place, under non-reentrant checkpointing.

huggingface/transformers#24525 for the operation, pytorch/pytorch#193671 for the lost check.
"""

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

OUTCOME = "silent"
STEPS = 1


class _Net(nn.Module):
    def __init__(self, is_reference):
        super().__init__()
        self.is_reference = is_reference
        self.project, self.head = nn.Linear(4, 8), nn.Linear(8, 2)

    def embed(self, x):
        embeddings = self.project(x)
        norms = embeddings.norm(dim=-1, keepdim=True)  # saver
        if self.is_reference:
            return self.head(embeddings / norms)
        embeddings /= norms  # culprit
        return self.head(embeddings)

    def forward(self, x):
        return checkpoint(self.embed, x, use_reentrant=False)


def make(is_reference=False):
    model = _Net(is_reference)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def step(_):
        optimizer.zero_grad()
        output = model(torch.randn(6, 4))
        output.square().mean().backward()
        optimizer.step()

    return model, optimizer, step
