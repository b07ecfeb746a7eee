"""The order that fails in a plain GAN, but the discriminator is checkpointed: it is recomputed with its new weights.

pytorch/pytorch#39141 for the order; pytorch/pytorch#69027 for the variant that recomputes in an unpack hook.
"""

import torch
import torch.nn.functional as F  # noqa: N812 - as everybody calls it
from torch import nn
from torch.utils.checkpoint import checkpoint

OUTCOME = "silent"
STEPS = 1


def make(is_reference=False):
    generator = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 4))
    discriminator = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
    of_generator = torch.optim.SGD(generator.parameters(), lr=0.1)
    of_discriminator = torch.optim.SGD(discriminator.parameters(), lr=0.5)

    def step(_):
        fakes = generator(torch.randn(6, 2))
        on_fake = checkpoint(discriminator, fakes, use_reentrant=False)  # saver
        of_discriminator.zero_grad()
        F.softplus(discriminator(fakes.detach())).mean().backward()
        if not is_reference:
            of_discriminator.step()  # culprit
        of_generator.zero_grad()
        of_discriminator.zero_grad()
        F.softplus(-on_fake).mean().backward()
        of_generator.step()

    models = nn.ModuleDict({"generator": generator, "discriminator": discriminator})
    return models, {"generator": of_generator, "discriminator": of_discriminator}, step
