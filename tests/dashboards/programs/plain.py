"""A healthy run of the simplest kind: nothing is compiled, clipped, scaled or asked for.

Prints the address of its metrics and trains until it is killed.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.utils.data import DataLoader

import loopscope


def main() -> None:
    """Train for ever."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    agent = loopscope.attach(model, optimizer, port=0, run="plain")
    print(agent.url, flush=True)
    inputs = torch.randn(400, 8)
    while True:
        for batch in DataLoader(inputs, batch_size=8, shuffle=True):
            optimizer.zero_grad()
            (model(batch) - batch.sum(1, keepdim=True)).square().mean().backward()
            optimizer.step()


if __name__ == "__main__":
    main()
