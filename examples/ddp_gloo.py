"""Data parallel on two CPU processes: every rank has an agent and a port of its own, and says its rank."""

import os
import tempfile
import urllib.request
from pathlib import Path

import torch
import torch.distributed as dist
from torch import multiprocessing, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

import loopscope

NUM_RANKS, NUM_EPOCHS = 2, 6


def train(rank: int, rendezvous: str) -> None:
    """Train as one of the ranks, and print what this rank's agent saw."""
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.manual_seed(0)
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=NUM_RANKS)
    inputs = torch.randn(512, 16)
    dataset = TensorDataset(inputs, inputs.square().sum(1, keepdim=True))
    loader = DataLoader(dataset, 32, sampler=DistributedSampler(dataset))

    model = DistributedDataParallel(nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 1)))
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-2)
    agent = loopscope.attach(model, optimizer, port=0)
    for _ in range(NUM_EPOCHS):
        for batch, targets in loader:
            optimizer.zero_grad()
            nn.functional.mse_loss(model(batch), targets).backward()
            optimizer.step()
    agent.flush()

    with urllib.request.urlopen(f"{agent.url}/metrics") as page:
        lines = page.read().decode().splitlines()
    steps = next(line for line in lines if line.startswith("loopscope_steps_total"))
    norm = agent.latest.gradients.global_norm  # of the reduced gradients: the same on every rank
    seen = f"{steps}, epochs {len(agent.epochs)}, loss {agent.latest.loss:.4f}, gradient norm {norm:.6f}"
    print(f"rank {rank}: {seen}\n", end="")  # one write: no other rank between it and its end
    agent.detach()
    dist.destroy_process_group()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as directory:
        multiprocessing.spawn(train, args=(str(Path(directory, "rendezvous")),), nprocs=NUM_RANKS)
