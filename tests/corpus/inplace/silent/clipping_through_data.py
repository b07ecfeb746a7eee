"""Weights are clipped through `.data` between the critic's forward and its backward.

martinarjovsky/WassersteinGAN#50 and znxlwm/pytorch-generative-model-collections#31: where the clipping stands.
"""

import torch
from torch import nn

OUTCOME = "silent"
STEPS = 1


def make(is_reference=False):
    critic = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
    optimizer = torch.optim.RMSprop(critic.parameters(), lr=0.001)

    def clip():
        for parameter in critic.parameters():
            parameter.data.clamp_(-0.1, 0.1)  # culprit

    def step(_):
        optimizer.zero_grad()
        loss = critic(torch.randn(6, 4)).mean() - critic(torch.randn(6, 4)).mean()  # saver
        if not is_reference:
            clip()
        loss.backward()
        optimizer.step()

    return critic, optimizer, step
