"""The learned temperature is clamped after the logits were made of it.

openai/CLIP#46 and mlfoundations/open_clip#104: where the logits' scale is to be clamped.
"""

import torch
from torch import nn

OUTCOME = "raises"
STEPS = 1
RAISES_IN = "backward"


class _Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.images, self.texts = nn.Linear(4, 8), nn.Linear(4, 8)
        self.log_scale = nn.Parameter(torch.tensor(5.0))

    def forward(self, images, texts):
        similarity = self.images(images) @ self.texts(texts).t()
        return self.log_scale * similarity  # saver


def make(is_reference=False):
    model = _Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)

    def step(_):
        optimizer.zero_grad()
        logits = model(torch.randn(6, 4), torch.randn(6, 4))
        loss = nn.functional.cross_entropy(logits, torch.arange(6))
        if not is_reference:
            with torch.no_grad():
                model.log_scale.clamp_(0.0, 4.6)  # culprit
        loss.backward()
        optimizer.step()

    return model, optimizer, step
