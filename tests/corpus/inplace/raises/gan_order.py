"""The discriminator steps before the generator's loss, which went through it, runs backward.

pytorch/pytorch#39141 and MorvanZhou/PyTorch-Tutorial#91: opt_D.step() stands too early.
"""

import torch
from torch import nn

OUTCOME = "raises"
STEPS = 1
RAISES_IN = "backward"


def make(is_reference=False):
    generator = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 4))
    discriminator = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1), nn.Sigmoid())
    optimize_generator = torch.optim.Adam(generator.parameters(), lr=0.001)
    optimize_discriminator = torch.optim.Adam(discriminator.parameters(), lr=0.001)

    def step(_):
        fakes = generator(torch.randn(6, 2))
        on_real = discriminator(torch.randn(6, 4))
        on_fake = discriminator(fakes)  # saver
        discriminator_loss = -(on_real.log() + (1 - on_fake).log()).mean()
        generator_loss = (1 - on_fake).log().mean()
        optimize_discriminator.zero_grad()
        discriminator_loss.backward(retain_graph=True)
        if not is_reference:
            optimize_discriminator.step()  # culprit
        optimize_generator.zero_grad()
        generator_loss.backward()
        optimize_generator.step()
        if is_reference:
            optimize_discriminator.step()

    models = nn.ModuleDict({"generator": generator, "discriminator": discriminator})
    return models, {"generator": optimize_generator, "discriminator": optimize_discriminator}, step
