"""A GAN in the right order: fakes are detached for the discriminator, and judged anew for the generator.

The fix of pytorch/pytorch#39141.
"""

import torch
import torch.nn.functional as F  # noqa: N812 - as everybody calls it
from torch import nn

OUTCOME = "harmless"
STEPS = 3


def make():
    generator = nn.Sequential(nn.Linear(2, 8), nn.ReLU(inplace=True), nn.Linear(8, 4))
    discriminator = nn.Sequential(nn.Linear(4, 8), nn.LeakyReLU(0.2, inplace=True), nn.Linear(8, 1))
    of_generator = torch.optim.Adam(generator.parameters(), lr=0.001)
    of_discriminator = torch.optim.Adam(discriminator.parameters(), lr=0.001)

    def step(_):
        fakes = generator(torch.randn(6, 2))
        of_discriminator.zero_grad()
        loss = F.softplus(-discriminator(torch.randn(6, 4))).mean()
        loss += F.softplus(discriminator(fakes.detach())).mean()
        loss.backward()
        of_discriminator.step()
        with torch.no_grad():
            for parameter in discriminator.parameters():
                parameter.clamp_(-0.5, 0.5)
        of_generator.zero_grad()
        F.softplus(-discriminator(fakes)).mean().backward()
        of_generator.step()

    models = nn.ModuleDict({"generator": generator, "discriminator": discriminator})
    return models, {"generator": of_generator, "discriminator": of_discriminator}, step
