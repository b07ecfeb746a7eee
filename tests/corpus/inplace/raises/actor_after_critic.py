"""The policy's loss was computed before the critic stepped, and runs backward after.

sweetice/Deep-reinforcement-learning-with-pytorch#50, MrSyee/pg-is-all-you-need#30.
"""

import torch
from torch import nn

OUTCOME = "raises"
STEPS = 1
RAISES_IN = "backward"


def make(is_reference=False):
    actor = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 1), nn.Tanh())
    critic = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
    of_actor = torch.optim.Adam(actor.parameters(), lr=0.001)
    of_critic = torch.optim.Adam(critic.parameters(), lr=0.001)

    def update(optimizer, loss):
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()  # culprit

    def step(_):
        states, actions, returns = torch.randn(6, 3), torch.randn(6, 1), torch.randn(6, 1)
        critic_loss = (critic(torch.cat((states, actions), dim=-1)) - returns).square().mean()
        policy_loss = -critic(torch.cat((states, actor(states)), dim=-1)).mean()  # saver
        if is_reference:
            update(of_actor, policy_loss)
            of_critic.zero_grad()
            update(of_critic, critic_loss)
        else:
            update(of_critic, critic_loss)
            update(of_actor, policy_loss)

    return nn.ModuleDict({"actor": actor, "critic": critic}), {"actor": of_actor, "critic": of_critic}, step
