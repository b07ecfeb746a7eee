"""One batch of fakes is used for several steps of the generator that made it.

tamarott/SinGAN#148 and GiorgosKarantonis/Adversarial-Attacks-with-Relativistic-AdvGAN#8.
"""

import torch
from torch import nn

OUTCOME = "raises"
STEPS = 1
RAISES_IN = "backward"


def make(is_reference=False):
    generator = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 4))
    discriminator = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
    optimizer = torch.optim.SGD(generator.parameters(), lr=0.1)

    def step(_):
        noise = torch.randn(6, 2)
        fakes = generator(noise)  # saver
        for _ in range(3):
            if is_reference:
                fakes = generator(noise)
            optimizer.zero_grad()
            loss = -discriminator(fakes).mean()
            loss.backward(retain_graph=True)
            optimizer.step()  # culprit

    return generator, optimizer, step
