"""Weights are clipped under no_grad between the critic's forward and its backward.

martinarjovsky/WassersteinGAN#50: the clipping comes too early.
"""

import torch
from torch import nn

OUTCOME = "raises"
STEPS = 1
RAISES_IN = "backward"


def make(is_reference=False):
    critic = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
    optimizer = torch.optim.RMSprop(critic.parameters(), lr=0.001)

    @torch.no_grad()
    def clip():
        for parameter in critic.parameters():
            parameter.clamp_(-0.1, 0.1)  # culprit

    def step(_):
        optimizer.zero_grad()
        loss = critic(torch.randn(6, 4)).mean() - critic(torch.randn(6, 4)).mean()  # saver
        if not is_reference:
            clip()
        loss.backward()
        optimizer.step()
        if is_reference:
            clip()

    return critic, optimizer, step
