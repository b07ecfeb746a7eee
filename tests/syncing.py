"""A loop that waits where a test wants it to, and what its reports have counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import torch
from tests.loops import batch, network

from loopscope.records import StepReport

__all__ = ["SIMULATED", "Loop", "counts"]

SIMULATED = {"sync_device": "cpu"}


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
