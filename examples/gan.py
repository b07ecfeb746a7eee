"""A GAN: two networks, two optimizers, one agent. The generator learns the points of a ring."""

import math

import torch
from torch import Tensor, nn

import loopscope

NUM_EPOCHS, NUM_ROUNDS, NUM_CRITIC_STEPS, BATCH_SIZE = 3, 50, 2, 128


def ring() -> Tensor:
    """Return a batch of points near the unit circle, [BATCH_SIZE, 2]."""
    angle = 2 * math.pi * torch.rand(BATCH_SIZE)
    return torch.stack([angle.cos(), angle.sin()], dim=1) + 0.05 * torch.randn(BATCH_SIZE, 2)


def network(num_inputs: int, num_outputs: int) -> nn.Module:
    """Return a small network."""
    return nn.Sequential(nn.Linear(num_inputs, 64), nn.LeakyReLU(0.2), nn.Linear(64, num_outputs))


torch.manual_seed(0)
torch.set_num_threads(1)
generator, critic = network(8, 2), network(2, 1)
generator_optimizer = torch.optim.Adam(generator.parameters(), lr=1e-3)
critic_optimizer = torch.optim.Adam(critic.parameters(), lr=1e-3)
agent = loopscope.attach(
    model={"generator": generator, "critic": critic},
    optimizer={"generator": generator_optimizer, "critic": critic_optimizer},
    port=0,
)

for _ in range(NUM_EPOCHS):
    for _ in range(NUM_ROUNDS):
        for _ in range(NUM_CRITIC_STEPS):
            fake = generator(torch.randn(BATCH_SIZE, 8)).detach()
            critic_loss = (1 - critic(ring())).relu().mean() + (1 + critic(fake)).relu().mean()
            critic_optimizer.zero_grad()
            critic_loss.backward()
            critic_optimizer.step()
        generator_loss = -critic(generator(torch.randn(BATCH_SIZE, 8))).mean()
        generator_optimizer.zero_grad()
        generator_loss.backward()
        generator_optimizer.step()
    agent.epoch()  # there is no DataLoader whose passes would be the epochs

agent.detach()
for report in agent.epochs:
    norm = report.global_norm
    print(f"epoch {report.epoch}, {report.optimizer}: {report.num_steps} steps, loss {report.loss:.3f}, ", end="")
    print(f"gradient norm {norm['mean']:.3f} in the mean, {norm['max']:.3f} at most; ", end="")
    print("layers", ", ".join(report.gradients.layers))
