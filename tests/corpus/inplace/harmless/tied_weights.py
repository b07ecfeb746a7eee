"""The output layer shares the embedding's weight; the padding's row is zeroed under no_grad after each step.

The look-alike of pytorch/pytorch#26596: one table, used twice, changed when no graph waits for it.
"""

import torch
from torch import nn

OUTCOME = "harmless"
STEPS = 2


class _Language(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding, self.out = nn.Embedding(10, 8), nn.Linear(8, 10, bias=False)
        self.out.weight = self.embedding.weight

    def forward(self, words):
        return self.out(torch.tanh(self.embedding(words)))


def make():
    model = _Language()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)

    def step(_):
        optimizer.zero_grad()
        words = torch.randint(10, (3, 5))
        nn.functional.cross_entropy(model(words).flatten(0, 1), words.flatten()).backward()
        optimizer.step()
        with torch.no_grad():
            model.embedding.weight[0].zero_()
            model.embedding.weight.renorm_(2, 0, 2.0)

    return model, optimizer, step
