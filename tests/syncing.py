"""A loop that waits where a test wants it to, what its reports have counted, and a stand-in for CUDA."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch
from tests.loops import batch, network

from loopscope.records import StepReport

__all__ = ["SIMULATED", "Loop", "StandIn", "counts", "stand_in", "waiting"]

SIMULATED = {"sync_device": "cpu"}
_PROTOTYPE = "Synchronization debug mode is a prototype feature and does not yet detect all synchronizing operations"


def counts(report: StepReport, *, is_allowed: bool) -> Counter[str]:
    """Return how often a report has each kind of sync."""
    return Counter(sync.kind for sync in report.syncs if sync.is_allowed is is_allowed for _ in range(sync.count))


class Loop:
    """One step after another, each with what the test wants to happen in it."""

    def __init__(self) -> None:
        self.model = network()
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.01)

    def step(self, during: Callable[[torch.Tensor], object] = lambda loss: None) -> None:
        """Train on one batch."""
        loss = self.model(batch()).square().mean()
        loss.backward()
        during(loss.detach())
        self.optimizer.step()
        self.optimizer.zero_grad()


class StandIn:
    """What of torch.cuda the probe of syncs looks at."""

    def __init__(self) -> None:
        self.mode = 0
        self.modes: list[int] = []

    def is_available(self) -> bool:
        """As torch.cuda has it, like all that follow."""
        return True

    def is_initialized(self) -> bool:
        """Say yes."""
        return True

    def get_sync_debug_mode(self) -> int:
        """Return the number of the mode."""
        return self.mode

    def set_sync_debug_mode(self, mode: int | str) -> None:
        """Warn of being a prototype, and note the mode."""
        self.mode = {"default": 0, "warn": 1, "error": 2}.get(str(mode), mode)  # type: ignore[assignment]
        self.modes.append(self.mode)
        if self.mode:
            warnings.warn(_PROTOTYPE, stacklevel=2)

    def memory_stats(self) -> dict[str, int]:
        """Have none."""
        return {}


_LIBRARY_SOURCE = """
import warnings

class Waiting:
    def __init__(self, device): self.device = device
    def _wait(self, *_, **__):
        if self.device.mode == 2:
            raise RuntimeError("called a synchronizing CUDA operation")
        if self.device.mode == 1:
            warnings.warn("called a synchronizing CUDA operation (Triggered internally at ...)", stacklevel=1)
        return self
    __getitem__ = __setitem__ = __add__ = __radd__ = __iadd__ = unique = nonzero = to = item_of = masked_select = _wait
    cpu = copy_ = topk = cuda = type = _wait
    num_calls = 0
    def before(self, function):
        def call(*args, **keywords):
            self.num_calls += 1
            self._wait()
            return function(*args, **keywords)
        return call
"""


def stand_in(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    """Put a stand-in in the place of torch.cuda's functions."""
    device = StandIn()
    for name in ("is_available", "is_initialized", "get_sync_debug_mode", "set_sync_debug_mode", "memory_stats"):
        monkeypatch.setattr(torch.cuda, name, getattr(device, name))
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    return device


def waiting(device: StandIn) -> Any:
    """Return what waits wherever it can, from a file that is PyTorch's by its name."""
    module = ModuleType("waiting")
    exec(compile(_LIBRARY_SOURCE, torch.__file__.replace("__init__", "_waiting"), "exec"), vars(module))
    return module.Waiting(device)
