"""A run with everything that the dashboards show: epochs, syncs, recompilations, graph breaks, a fallback, an incident.

Prints the address of its metrics and trains until it is killed. An epoch has sixty steps and takes five seconds, on
a fast machine as well, and every second one has a batch of NaN.
"""

from __future__ import annotations

import time

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import loopscope

NUM_IN = 16
STEP_SECONDS = 0.07


class Network(nn.Module):
    """An embedding, residual blocks with two kinds of activations, a head."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(NUM_IN, 64)
        kinds = (nn.ReLU, nn.Tanh, nn.ReLU, nn.Tanh)
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(64, 64), kind(), nn.LayerNorm(64)) for kind in kinds)
        self.head = nn.Linear(64, 1)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return one number a sample."""
        hidden = self.embed(inputs)
        for block in self.blocks:
            hidden = hidden + block(hidden)
        return self.head(hidden)


@torch.compile(backend="eager", dynamic=False)
def scaled(values: torch.Tensor, factor: int) -> torch.Tensor:
    """Compiled again for each factor, one an epoch, and broken in the middle."""
    values = values * factor
    torch._dynamo.graph_break()
    return values / factor


@torch.compile(backend="eager", dynamic=False)
def squared(values: torch.Tensor) -> torch.Tensor:
    """Compiled again for each length, until torch gives it up."""
    return values.square()


def train(model: nn.Module, optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler, epoch: int) -> None:
    """Train for an epoch."""
    inputs = torch.randn(480, NUM_IN)
    loader = DataLoader(TensorDataset(inputs, inputs.square().sum(1, keepdim=True)), batch_size=8, shuffle=True)
    for step, (batch, targets) in enumerate(loader):
        factor = float("nan") if epoch % 2 == 1 and step == 30 else 1.0
        optimizer.zero_grad()
        outputs = scaled(model(batch * factor), 1 + epoch % 7)
        loss = nn.functional.mse_loss(outputs, targets)
        squared(torch.ones(1 + min(epoch * 60 + step, 40) % 20))
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        scaler.step(optimizer)
        scaler.update()
        time.sleep(STEP_SECONDS)  # epochs shorter than two intervals of a graph have no marks
        if loss.item() > 1e6 or bool(loss.detach() < 0):
            break


def main() -> None:
    """Train for ever."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    model = Network()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    scaler = torch.amp.GradScaler("cpu", init_scale=256.0, growth_interval=300)
    agent = loopscope.attach(
        model, optimizer, port=0, run="one-process", sync_device="cpu", activations=True, log_events=False
    )
    print(agent.url, flush=True)
    epoch = 0
    while True:
        train(model, optimizer, scaler, epoch)
        epoch += 1


if __name__ == "__main__":
    main()
