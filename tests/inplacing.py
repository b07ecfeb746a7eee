"""Loops for tests of the in-place probe, and what is on the stack of modes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.loops import NUM_IN, Watched, batch, network
from torch import Tensor, nn
from torch.utils import _python_dispatch

import loopscope

__all__ = ["Broken", "failure", "inplace_events", "mode_stack", "model_and_optimizer", "train_once"]


class Broken(nn.Module):
    """Backward raises: exp has saved what is added to."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(NUM_IN, 8)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return what backward cannot do without."""
        hidden = torch.exp(self.layer(inputs))
        hidden += 1
        return hidden


def mode_stack() -> list[Any]:
    """Return the dispatch modes of this thread."""
    return list(_python_dispatch._get_current_dispatch_mode_stack())


def train_once(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Train on one batch."""
    optimizer.zero_grad()
    model(batch()).square().mean().backward()
    optimizer.step()


def model_and_optimizer(model: nn.Module | None = None) -> tuple[nn.Module, torch.optim.Optimizer]:
    """Return a model and its optimizer."""
    model = network() if model is None else model
    return model, torch.optim.SGD(model.parameters(), lr=0.01)


def failure(model: nn.Module) -> RuntimeError:
    """Run a backward that raises, and return what it raised."""
    with pytest.raises(RuntimeError, match="modified by an inplace operation") as caught:
        model(batch()).sum().backward()
    return caught.value


def inplace_events(watched: Watched) -> list[loopscope.Event]:
    """Return the events of in-place operations so far."""
    assert watched.agent.flush(10)
    return [event for event in watched.memory.events if event.kind.startswith("inplace_")]
