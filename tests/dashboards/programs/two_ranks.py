"""Two ranks over gloo, one network under DDP and one sharded by FSDP2; rank 1 has more to do before each backward.

Prints the addresses of the metrics, one a rank, and trains until it is killed.
"""

from __future__ import annotations

import os
import signal
import tempfile
from pathlib import Path

import torch
import torch.distributed as dist
from torch import multiprocessing, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

import loopscope

NUM_RANKS = 2


def network() -> nn.Sequential:
    """Return three layers."""
    return nn.Sequential(nn.Linear(16, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 1))


def step(model: nn.Module, optimizer: torch.optim.Optimizer, batch: torch.Tensor, targets: torch.Tensor) -> None:
    """Train on a batch."""
    optimizer.zero_grad()
    nn.functional.mse_loss(model(batch), targets).backward()
    optimizer.step()


def train(rank: int, rendezvous: str) -> None:
    """Train as one of the ranks for ever."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # comes when the parent is gone; started by `&` it would be ignored
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.manual_seed(0)
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=NUM_RANKS)
    inputs = torch.randn(512, 16)
    dataset = TensorDataset(inputs, inputs.square().sum(1, keepdim=True))
    loader = DataLoader(dataset, 16, sampler=DistributedSampler(dataset))
    replicated = DistributedDataParallel(network())
    sharded = fully_shard(network(), mesh=init_device_mesh("cpu", (NUM_RANKS,)))
    ddp, fsdp = (torch.optim.SGD(each.parameters(), lr=1e-3) for each in (replicated, sharded))
    agents = [
        loopscope.attach(replicated, ddp, name="ddp", port=0, run="two-ranks", log_events=False),
        loopscope.attach(sharded, fsdp, name="fsdp", port=0, run="two-ranks", log_events=False),
    ]
    print(f"{agents[0].url}\n", end="", flush=True)  # in one write, between which no other rank's comes
    slow = torch.randn(256, 256)
    while True:
        for batch, targets in loader:
            step(replicated, ddp, batch, targets)
            for _ in range(8 * rank):
                slow @ slow
            step(sharded, fsdp, batch, targets)


def main() -> None:
    """Start the ranks, which end with this process."""
    with tempfile.TemporaryDirectory() as directory:
        multiprocessing.spawn(train, args=(str(Path(directory, "rendezvous")),), nprocs=NUM_RANKS)


if __name__ == "__main__":
    main()
