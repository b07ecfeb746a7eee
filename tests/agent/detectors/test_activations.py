"""Laws of the detectors of dead and saturated units."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from tests.builders import step_report
from tests.detecting import see
from tests.loops import watch
from torch import nn
from torch.optim import SGD, Adam

from loopscope.detectors.activations import DeadUnits, DeadUnitsRule, SaturatedUnits, SaturatedUnitsRule
from loopscope.records import ActivationTable, StepReport

NAMES = ("stem.act", "body.act")


def _table(dead: Sequence[float], saturated: Sequence[float], *, is_output: Sequence[bool] = (False, False)) -> Any:
    size = len(NAMES)
    return ActivationTable(
        names=NAMES,
        modules=NAMES,
        types=("ReLU", "Tanh"),
        layers=("stem", "body"),
        layer_index_A=np.arange(size),
        num_units_A=np.full(size, 10),
        num_rows_A=np.full(size, 32),
        dead_ratio_A=np.array(dead),
        lasting_dead_ratio_A=np.array(dead),
        saturated_ratio_A=np.array(saturated),
        norms_A=np.ones(size),
        mean_squares_A=np.ones(size),
        is_output_A=np.array(is_output),
    )


def _reports(shares: Sequence[float], **changes: Any) -> list[StepReport]:
    """Every tenth step is sampled; the share is that of the second activation, dead and saturated alike."""
    tables = [_table((0.1, share), (math.nan, share), **changes) for share in shares]
    return [
        step_report(10 * i + offset, activations=table if offset == 0 else None)
        for i, table in enumerate(tables)
        for offset in (0, 1)
    ]


BOTH = pytest.mark.parametrize(
    ("detector", "kind"),
    [
        (lambda: DeadUnits(DeadUnitsRule()), "dead_units"),
        (lambda: SaturatedUnits(SaturatedUnitsRule()), "saturated_units"),
    ],
    ids=["dead", "saturated"],
)


@BOTH
def test_it_is_told_at_the_third_sample_in_a_row(detector: Any, kind: str) -> None:
    """Once, with the module and the share."""
    (event,) = see(detector(), _reports([0.2, 0.9, 0.9, 0.9, 0.9, 0.9]))

    assert (event.kind, event.severity, event.step, event.layer) == (kind, "warning", 30, "body.act")
    assert event.value == pytest.approx(0.9)


@BOTH
@pytest.mark.parametrize("shares", [[0.9, 0.9, 0.2, 0.9, 0.9], [0.6] * 10, [math.nan] * 10])
def test_less_is_not_told(detector: Any, kind: str, shares: list[float]) -> None:
    """Neither two samples in a row, nor less than the bound, nor what is not known."""
    assert see(detector(), _reports(shares)) == []


@BOTH
def test_it_is_told_again_after_it_was_over(detector: Any, kind: str) -> None:
    """Three calm samples close it; two do not."""
    assert len(see(detector(), _reports([0.9] * 4 + [0.1] * 2 + [0.9] * 4))) == 1
    assert len(see(detector(), _reports([0.9] * 4 + [0.1] * 3 + [0.9] * 4))) == 2


def test_output_may_saturate() -> None:
    """A classifier that is sure is what was wanted."""
    assert see(SaturatedUnits(SaturatedUnitsRule()), _reports([0.9] * 5, is_output=(False, True))) == []


def test_saturation_of_what_has_learnt_is_info() -> None:
    """The loss at a tenth of its first value says so."""
    reports = [step_report(i, loss=2.0 if i == 0 else 0.1, activations=_table((0, 0), (0, 0.9))) for i in range(5)]

    assert [event.severity for event in see(SaturatedUnits(SaturatedUnitsRule()), reports)] == ["info"]


def _run(model: nn.Module, make: Any, scale: float = 1.0, num_steps: int = 120) -> list[tuple[str, str, str | None]]:
    torch.manual_seed(3)
    inputs = torch.randn(256, 8)
    targets = (inputs[:, :1] * inputs[:, 1:2]).sin()
    optimizer = make(model.parameters())
    with watch(model, optimizer, activations=True, overhead_budget=1.0) as watched:
        for step in range(num_steps):
            rows = torch.arange(32) + 32 * (step % 8)
            (model(inputs[rows] * scale) - targets[rows]).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
        assert watched.agent.flush(10)
        events = watched.memory.events
    kinds = {"dead_units", "saturated_units"}
    return [(event.kind, event.severity, event.layer) for event in events if event.kind in kinds]


def _network(activation: type[nn.Module]) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 32), activation(), nn.Linear(32, 32), activation(), nn.Linear(32, 1))


@pytest.mark.parametrize("activation", [nn.ReLU, nn.Tanh, nn.Sigmoid, nn.GELU, nn.ELU, nn.SiLU, nn.Hardtanh])
def test_healthy_network_is_silent(activation: type[nn.Module]) -> None:
    """With any activation."""
    assert _run(_network(activation), lambda parameters: Adam(parameters, 1e-3)) == []


def test_network_that_died_is_told() -> None:
    """Biases far below zero: no sample gets through the second layer."""
    model = _network(nn.ReLU)
    with torch.no_grad():
        model[2].bias.fill_(-50.0)

    assert _run(model, lambda parameters: SGD(parameters, 1e-3)) == [("dead_units", "warning", "3")]


@pytest.mark.parametrize("activation", [nn.Tanh, nn.Sigmoid, nn.Hardtanh])
def test_inputs_out_of_scale_saturate(activation: type[nn.Module]) -> None:
    """As pixels from 0 to 255 do."""
    events = _run(_network(activation), lambda parameters: SGD(parameters, 1e-4), scale=200.0)

    assert events == [("saturated_units", "warning", "1")]
