"""Further loops on the digits with one planted fault each: values that are not finite, and what lies behind them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from tests.loops import watch
from tests.training_models import Gpt, Lstm, batches, conv, mlp
from tests.training_runs import ONSET, Fault
from torch import Tensor, nn
from torch.nn import functional

from loopscope.records import StepReport

__all__ = ["BROKEN"]

_NUM_STEPS = 140
_Plant = Callable[[nn.Module, int, Tensor, Tensor], tuple[Tensor, Tensor]]


class Scaled(nn.Module):
    """A linear layer whose output goes through a function that may break."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.linear, self.function, self.is_broken = nn.Linear(64, 64), function, False

    def forward(self, hidden: Tensor) -> Tensor:
        """Run on a batch."""
        output: Tensor = self.linear(hidden)
        return self.function(output) if self.is_broken else output


def _deep(function: Callable[[Tensor], Tensor] = lambda values: values) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), Scaled(function), nn.ReLU(), nn.Linear(64, 64),
        nn.ReLU(), nn.Linear(64, 10),
    )  # fmt: skip


def _run(make: Callable[[], nn.Module], plant: _Plant, *, lr: float = 1e-3) -> Callable[[int], Sequence[StepReport]]:
    def run(seed: int) -> Sequence[StepReport]:
        torch.manual_seed(seed)
        model = make()
        optimizer = torch.optim.Adam(model.parameters(), lr)
        with watch(model, optimizer) as watched:
            for step, (images, labels) in enumerate(itertools.islice(batches(seed), _NUM_STEPS)):
                inputs, targets = plant(model, step, images, labels) if step == ONSET else (images, labels)
                output = model(inputs)
                loss = output if output.dim() == 0 else functional.cross_entropy(output, targets)
                loss.backward()
                optimizer.step()
                optimizer.zero_grad()
            return watched.reports

    return run


def _poison(name: str, value: float = math.nan) -> _Plant:
    def plant(model: nn.Module, step: int, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            model.get_parameter(name).view(-1)[0] = value
        return images, labels

    return plant


def _break(model: nn.Module, step: int, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    model.get_submodule("4").is_broken = True
    return images, labels


def _bad_row(model: nn.Module, step: int, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    images = images.clone()
    images[3, 5] = math.nan
    return images, labels


def _hook(name: str) -> _Plant:
    def plant(model: nn.Module, step: int, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        model.get_parameter(name).register_hook(lambda gradient: gradient * math.inf)
        return images, labels

    return plant


def _root_of_zero(model: nn.Module, step: int, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    model.get_submodule("4").function = lambda values: values + (values - values.detach()).square().sum().sqrt()
    return _break(model, step, images, labels)


def _fault(run: Callable[[int], Any], kind: str, *layers: str) -> Fault:
    results = frozenset({"nonfinite_gradient", "nonfinite_loss"}) - {kind}
    return Fault(run, frozenset({kind}), ONSET, 1, layers, also=results)


BROKEN: Mapping[str, Fault] = {
    "nan_in_a_row_of_the_batch": _fault(_run(_deep, _bad_row), "nonfinite_loss", "0"),
    "nan_in_the_weights": _fault(_run(_deep, _poison("6.weight")), "nonfinite_loss", "6"),
    "infinity_in_a_bias": _fault(_run(_deep, _poison("2.bias", math.inf)), "nonfinite_loss", "2"),
    "nan_in_a_convolution": _fault(_run(conv, _poison("4.weight")), "nonfinite_loss", "4"),
    "nan_in_a_transformer": _fault(
        _run(Gpt, _poison("blocks.1.linear1.weight")), "nonfinite_loss", "blocks.1", "blocks.1.linear1"
    ),
    "nan_in_an_lstm": _fault(_run(Lstm, _poison("cells.weight_ih_l1")), "nonfinite_loss", "cells"),
    "logarithm_of_less_than_zero": _fault(_run(lambda: _deep(torch.log), _break), "nonfinite_loss", "4", "4.linear"),
    "division_by_zero": _fault(
        _run(lambda: _deep(lambda values: values / torch.zeros(64)), _break), "nonfinite_loss", "4", "4.linear"
    ),
    "overflow": _fault(
        _run(lambda: _deep(lambda values: torch.exp(1e4 * values)), _break), "nonfinite_loss", "4", "4.linear"
    ),
    "hook_that_overflows": _fault(_run(_deep, _hook("6.weight")), "nonfinite_gradient", "6"),
    "root_of_zero": _fault(_run(_deep, _root_of_zero), "nonfinite_gradient", "4", "4.linear"),
    "infinite_input": _fault(
        _run(lambda: mlp(64, 64), lambda model, step, images, labels: (images / 0.0, labels)), "nonfinite_loss", "0"
    ),
}
