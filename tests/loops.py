"""Small training loops for tests of the agent: a network, its batches, and an agent that reports to memory."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD
from torch.utils.data import DataLoader

import loopscope
from loopscope.records import StepReport
from loopscope_exporters.memory import MemoryExporter

__all__ = ["NUM_IN", "FullRun", "Watched", "batch", "network", "samples", "watch", "weights"]

NUM_IN = 4


class Watched:
    """An agent and the exporter that got its records."""

    def __init__(self, agent: Any, memory: MemoryExporter) -> None:
        self.agent, self.memory = agent, memory

    @property
    def reports(self) -> tuple[StepReport, ...]:
        """All step reports so far, skipped steps included."""
        assert self.agent.flush(10)
        return self.memory.steps

    @property
    def only(self) -> StepReport:
        """The one report that there is."""
        (report,) = self.reports
        return report


@contextlib.contextmanager
def watch(
    model: Any, optimizer: Any = None, *, exporters: tuple[object, ...] = (), **settings: Any
) -> Iterator[Watched]:
    """Attach an agent without a server for the length of a block."""
    memory = MemoryExporter(history=10_000)
    agent = loopscope.attach(
        model, optimizer, **{"port": None, "log_events": False} | settings, exporters=(memory, *exporters)
    )
    with agent:
        yield Watched(agent, memory)


def network(seed: int = 0) -> nn.Sequential:
    """Return two layers, `0` and `2`, the same ones for a seed."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(NUM_IN, 8), nn.Tanh(), nn.Linear(8, 1))


def batch(seed: int = 0, size: int = 6) -> Tensor:
    """Return inputs [size, NUM_IN]."""
    return torch.randn(size, NUM_IN, generator=torch.Generator().manual_seed(seed))


def samples(number: int) -> list[Tensor]:
    """Return a data set of that many inputs [NUM_IN]."""
    return list(batch(1, number))


def weights(model: nn.Module) -> Tensor:
    """Return a copy of all parameters in one vector."""
    return torch.cat([parameter.detach().reshape(-1) for parameter in model.parameters()]).clone()


class FullRun:
    """A loop that has everything a probe looks at: a loader, a scaler that skips, clipping, zero_grad."""

    def __init__(self) -> None:
        self.model = network()
        self.optimizer = SGD(self.model.parameters(), 0.05, momentum=0.9)
        self.scaler = torch.amp.GradScaler("cpu", init_scale=64.0)
        self.num_steps = 0

    def epoch(self) -> None:
        """Train on six batches."""
        for inputs in DataLoader(samples(12), batch_size=2):
            self.step(inputs)

    def step(self, inputs) -> None:
        """Train on a batch; the fourth of all overflows."""
        self.optimizer.zero_grad()
        loss = self.model(inputs).square().mean() * (float("inf") if self.num_steps == 3 else 1.0)
        self.scaler.scale(loss).backward()
        self.scaler.unscale_(self.optimizer)
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 0.1)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.num_steps += 1

    def train(self, agent: Any = None) -> Tensor:
        """Train for two epochs, flushing after each; return the weights."""
        for _ in range(2):
            self.epoch()
            if agent is not None:
                agent.flush(10)
        return weights(self.model)
