"""The shortcut is added in place to the output of a ReLU.

iMED-Lab/ER-Net#3 and pytorch/vision#807, where the sum moved behind the activation: `out += residual`.
"""

import torch
from torch import nn

OUTCOME = "raises"
STEPS = 1
RAISES_IN = "backward"


class _Block(nn.Module):
    def __init__(self, is_reference):
        super().__init__()
        self.is_reference = is_reference
        self.convolution = nn.Conv2d(3, 3, kernel_size=3, padding=1)
        self.activation = nn.ReLU(inplace=True)

    def forward(self, image):
        out = self.activation(self.convolution(image))  # saver
        if self.is_reference:
            out = out + image
        else:
            out += image  # culprit
        return out


def make(is_reference=False):
    model = nn.Sequential(_Block(is_reference), _Block(is_reference), nn.Flatten(), nn.Linear(48, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def step(_):
        optimizer.zero_grad()
        model(torch.randn(2, 3, 4, 4)).square().mean().backward()
        optimizer.step()

    return model, optimizer, step
