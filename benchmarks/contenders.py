"""What is compared: loopscope, and what people write by hand, each put onto a training loop in its own process."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from workloads import TrainingLoop

__all__ = ["CONTENDERS", "Contender", "Monitor"]


class Monitor:
    """A contender at work on one loop; by itself it does nothing, as on the bare loop."""

    url: str | None = None

    def settle(self) -> None:
        """Have everything done that was put off."""

    def sample_interval(self) -> int | None:
        """Steps from one dear sample to the next, None where all steps are alike."""
        return None

    def spent_seconds(self) -> dict[str, float]:
        """Seconds that it says it has spent so far, by part; empty where it does not say."""
        return {}

    def num_dropped(self) -> int:
        """Steps so far that it has not reported: what was dropped cost less than it should."""
        return 0

    def close(self) -> None:
        """End it."""


class _Loopscope(Monitor):
    """The agent with its default settings, on a port of its own."""

    def __init__(self, loop: TrainingLoop, **settings: Any) -> None:
        import loopscope

        self._agent: Any = loopscope.attach(loop.model, loop.optimizer, port=0, **settings)
        self.url = self._agent.url

    def settle(self) -> None:
        assert self._agent.flush(30.0), "the worker has not caught up within 30 s"

    def sample_interval(self) -> int | None:
        return int(self._agent._report_self().sample_interval_steps)

    def spent_seconds(self) -> dict[str, float]:
        report = self._agent._report_self()
        assert not any(report.internal_errors.values()), f"faults in loopscope: {report.internal_errors}"
        return dict(report.overhead_seconds)

    def num_dropped(self) -> int:
        return int(self._agent._report_self().dropped_reports)

    def close(self) -> None:
        self._agent.detach()


class _LoopscopeWithLog(_Loopscope):
    """The agent that also writes its JSONL log, to a folder that goes with it."""

    def __init__(self, loop: TrainingLoop) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="loopscope-benchmark-")
        super().__init__(loop, jsonl=str(Path(self._folder.name) / "run.jsonl"))

    def close(self) -> None:
        super().close()
        self._folder.cleanup()


class _LoopscopeOfMany(_Loopscope):
    """The agent beside agents of idle models, one server for all: about 2,000 series to scrape."""

    def __init__(self, loop: TrainingLoop) -> None:
        import loopscope

        super().__init__(loop)
        self._others: list[Any] = []
        for num_layers in (64, 20):
            model = nn.Sequential(*[nn.Linear(4, 4) for _ in range(num_layers)])
            optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
            agent: Any = loopscope.attach(model, optimizer, port=0)
            for _ in range(2):
                model(torch.ones(1, 4)).sum().backward()
                optimizer.step()
            agent.epoch()
            self._others.append((agent, model, optimizer))

    def close(self) -> None:
        for agent, _, _ in self._others:
            agent.detach()
        super().close()


class _Norms(Monitor):
    """`.norm().item()` of each gradient at each step."""

    def __init__(self, loop: TrainingLoop) -> None:
        self._parameters = loop.parameters
        loop.before_step = self._read

    def _read(self) -> None:
        for parameter in self._parameters:
            if parameter.grad is not None:
                parameter.grad.norm().item()


class _FiveStatistics(Monitor):
    """Norm, largest magnitude, mean, zero ratio and non-finite count of each gradient at each step."""

    def __init__(self, loop: TrainingLoop) -> None:
        self._parameters = loop.parameters
        loop.before_step = self._read

    def _read(self) -> None:
        for parameter in self._parameters:
            gradient = parameter.grad
            if gradient is not None:
                gradient.norm().item()
                gradient.abs().max().item()
                gradient.mean().item()
                (gradient == 0).float().mean().item()
                torch.isfinite(gradient).logical_not().sum().item()


def _nothing(loop: TrainingLoop) -> Monitor:
    return Monitor()


@dataclass(frozen=True)
class Contender:
    """A contender by name; `start` puts it onto a loop."""

    name: str
    title: str
    start: Callable[[TrainingLoop], Monitor]


CONTENDERS = {
    contender.name: contender
    for contender in (
        Contender("loopscope", "loopscope, default settings", _Loopscope),
        Contender("loopscope_jsonl", "loopscope with its JSONL log", _LoopscopeWithLog),
        Contender("loopscope_many_series", "loopscope with 2,000 series", _LoopscopeOfMany),
        Contender("null", "null: a second bare loop, the noise", _nothing),
        Contender("norm_item", "`.norm().item()` per parameter", _Norms),
        Contender("five_items", "five statistics with `.item()` per parameter", _FiveStatistics),
        Contender("bare", "bare loop", _nothing),
    )
}
