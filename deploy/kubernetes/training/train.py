"""Data parallel under torchrun, on GPUs where there are some: every rank serves its own metrics."""

import os

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

import loopscope

NUM_EPOCHS = int(os.environ.get("NUM_EPOCHS", "2000"))


def main() -> None:
    """Train a small network on the task of a square, as the rank that torchrun says."""
    has_gpu = torch.cuda.is_available()
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if has_gpu else torch.device("cpu")
    if has_gpu:
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if has_gpu else "gloo")
    torch.manual_seed(0)
    inputs = torch.randn(8192, 16)
    dataset = TensorDataset(inputs, inputs.square().sum(1, keepdim=True))
    sampler: DistributedSampler[tuple[torch.Tensor, ...]] = DistributedSampler(dataset)
    loader = DataLoader(dataset, 64, sampler=sampler, pin_memory=has_gpu)

    model = DistributedDataParallel(nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 1)).to(device))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    with loopscope.attach(model, optimizer):
        for epoch in range(NUM_EPOCHS):
            sampler.set_epoch(epoch)
            for batch, targets in loader:
                loss = nn.functional.mse_loss(
                    model(batch.to(device, non_blocking=True)), targets.to(device, non_blocking=True)
                )
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
