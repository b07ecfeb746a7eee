"""Batches of a DataLoader are scaled and shifted in place before the model sees them.

The look-alike of juliendenize/torchaug#10: normalisation of images in place.
"""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

OUTCOME = "harmless"
STEPS = 2


def make(is_reference=False):
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    samples = TensorDataset(torch.randint(256, (8, 1, 4, 4), dtype=torch.uint8), torch.randint(3, (8,)))

    def step(_):
        for raw, targets in DataLoader(samples, batch_size=4):
            optimizer.zero_grad()
            images = raw.float()
            if is_reference:
                images = (images / 255 - 0.5) / 0.25
            else:
                images.div_(255)
                images -= 0.5
                images[:] = images / 0.25
            nn.functional.cross_entropy(model(images), targets).backward()
            optimizer.step()

    return model, optimizer, step
