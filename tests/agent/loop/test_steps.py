"""Laws of steps: what counts as one, which number it has, what was skipped, and whose it is."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.loops import batch, network, samples, watch
from torch import nn
from torch.optim import SGD, Adam, Optimizer
from torch.utils.data import DataLoader


def _train(model: nn.Module, optimizer: Optimizer, num_steps: int) -> None:
    for seed in range(num_steps):
        optimizer.zero_grad()
        model(batch(seed)).square().mean().backward()
        optimizer.step()


def _overflow(parameter: nn.Parameter, is_on: Callable[[], bool]) -> None:
    """Make the gradient of one parameter infinite, while `is_on`."""
    parameter.register_hook(lambda gradient: gradient * math.inf if is_on() else gradient)


@pytest.mark.parametrize(("initial_step", "initial_epoch"), [(0, 0), (100, 3)])
def test_steps_are_numbered_from_initial_step(initial_step, initial_epoch):
    """Each optimizer step is one report, numbered in order from `initial_step`, in `initial_epoch`."""
    model = network()
    optimizer = SGD(model.parameters(), 0.1)

    with watch(model, optimizer, initial_step=initial_step, initial_epoch=initial_epoch) as watched:
        _train(model, optimizer, 5)

        assert [report.step for report in watched.reports] == list(range(initial_step, initial_step + 5))
        assert {report.epoch for report in watched.reports} == {initial_epoch}
        assert all(report.num_steps == report.micro_steps == report.num_micro_steps == 1 for report in watched.reports)


def test_latest_is_the_last_step_after_flush():
    """After `flush`, `agent.latest` is the report of the last step."""
    model = network()
    optimizer = SGD(model.parameters(), 0.1)

    with watch(model, optimizer) as watched:
        _train(model, optimizer, 3)

        assert watched.agent.flush()
        assert watched.agent.latest.step == 2


def test_accumulated_micro_steps_are_one_step():
    """Backwards before a step are its micro-steps; the norm is that of the accumulated gradient."""
    model = network()
    optimizer = SGD(model.parameters(), 0.1)

    with watch(model, optimizer) as watched:
        for seed in range(3):
            (model(batch(seed)).square().mean() / 3).backward()
        expected = torch.nn.utils.get_total_norm([parameter.grad for parameter in model.parameters()])
        optimizer.step()

        assert (watched.only.micro_steps, watched.only.num_micro_steps) == (3, 3)
        assert watched.only.gradients.global_norm == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("is_fused", [False, True])
def test_step_that_a_grad_scaler_skips_names_its_layer(is_fused):
    """A GradScaler's skip has no step of its own, the next step's number, and the layer that was not finite."""
    model = network()
    optimizer = Adam(model.parameters(), 0.01, fused=is_fused)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    step = 0
    _overflow(model[2].weight, lambda: step == 1)

    with watch(model, optimizer) as watched:
        for step in range(4):
            optimizer.zero_grad()
            scaler.scale(model(batch(step)).square().mean()).backward()
            scaler.step(optimizer)
            scaler.update()

        reports = watched.reports
        assert [report.skipped for report in reports] == [None, "grad_scaler", None, None]
        assert [report.step for report in reports] == [0, 1, 1, 2]
        assert [report.num_steps for report in reports] == [1, 0, 1, 1]
        assert [report.gradients.nonfinite_layers for report in reports] == [(), ("2",), (), ()]
        assert reports[1].num_skipped == {"grad_scaler": 1}
        assert [report.grad_scale for report in reports] == [1024.0, 1024.0, 512.0, 512.0]


@pytest.mark.parametrize("is_fused", [False, True])
@pytest.mark.parametrize("does_unscale", [False, True])
def test_norms_and_losses_under_a_grad_scaler_are_unscaled(is_fused, does_unscale):
    """Under a GradScaler norms and losses are those without it, unscaled by the loop or not, fused or not."""
    losses, norms = [], []
    for scaler in (torch.amp.GradScaler("cpu", enabled=False), torch.amp.GradScaler("cpu", init_scale=4096.0)):
        model = network()
        optimizer = Adam(model.parameters(), 0.01, fused=is_fused)
        with watch(model, optimizer) as watched:
            scaler.scale(model(batch()).square().mean()).backward()
            if does_unscale:
                scaler.unscale_(optimizer)
            scaler.step(optimizer)
            scaler.update()
            losses.append(watched.only.loss)
            norms.append(watched.only.gradients.global_norm)

    assert losses[1] == pytest.approx(losses[0], rel=1e-6)
    assert norms[1] == pytest.approx(norms[0], rel=1e-5)


@pytest.mark.parametrize("owner", ["optimizer", "model"])
@pytest.mark.parametrize("set_to_none", [False, True])
def test_gradients_zeroed_without_a_step_are_a_manual_skip(owner, set_to_none):
    """A hand-written skip is seen where the gradients are zeroed; its number is that of the step to come."""
    model = network()
    optimizer = SGD(model.parameters(), 0.1)
    step = 0
    _overflow(model[0].bias, lambda: step == 1)

    with watch(model, optimizer) as watched:
        for step in range(3):
            model(batch(step)).square().mean().backward()
            if step != 1:
                optimizer.step()
            {"optimizer": optimizer, "model": model}[owner].zero_grad(set_to_none=set_to_none)

        assert [(report.step, report.skipped) for report in watched.reports] == [(0, None), (1, "manual"), (1, None)]
        assert watched.reports[1].gradients.nonfinite_layers == ("0",)
        assert watched.reports[1].num_skipped == {"manual": 1}


@pytest.mark.parametrize("part", [0, 2])
def test_zeroing_one_layer_is_no_skip(part):
    """A loop that zeroes one layer's gradients before the step has skipped nothing."""
    model = network()
    optimizer = SGD(model.parameters(), 0.1)

    with watch(model, optimizer) as watched:
        loss = model(batch()).square().mean()
        loss.backward()
        model[part].zero_grad()
        optimizer.step()

        assert (watched.only.skipped, watched.only.micro_steps) == (None, 1)
        assert watched.only.loss == loss.item()


class _Subclass(SGD):
    def step(self, closure: Any = None) -> Any:
        return super().step(closure)


class _Wrapper(Optimizer):
    """Owns the same parameter groups as the optimizer inside, as Lookahead does."""

    def __init__(self, base: Optimizer) -> None:
        super().__init__(base.param_groups, {})
        self.base = base

    def step(self, closure: Any = None) -> Any:
        return self.base.step(closure)


class _Shell(Optimizer):
    """Owns a parameter of its own and steps the optimizer inside."""

    def __init__(self, base: Optimizer) -> None:
        super().__init__([torch.zeros(1)], {})
        self.base = base

    def step(self, closure: Any = None) -> Any:
        return self.base.step(closure)

    def zero_grad(self, set_to_none: bool = True) -> None:
        self.base.zero_grad(set_to_none)


@pytest.mark.parametrize("make", [_Subclass, lambda p, lr: _Wrapper(SGD(p, lr)), lambda p, lr: _Shell(SGD(p, lr))])
def test_nested_steps_are_one_step(make):
    """A step that calls `super().step()`, or that of an optimizer inside, is one step with one backward."""
    model = network()
    optimizer = make(list(model.parameters()), 0.1)

    with watch(model, getattr(optimizer, "base", optimizer)) as watched:
        _train(model, optimizer, 3)

        assert [(report.step, report.optimizer, report.micro_steps) for report in watched.reports] == [
            (step, None, 1) for step in range(3)
        ]
        assert all(report.gradients.global_norm > 0 for report in watched.reports)


@pytest.mark.parametrize("rate", [0.125, torch.tensor(0.125)])
def test_learning_rates_are_those_that_the_step_used(rate):
    """Each parameter group has its rate, a float or a tensor, as it was before the scheduler changed it."""
    model = network()
    groups = [{"params": model[0].parameters(), "lr": rate}, {"params": model[2].parameters(), "lr": 0.5}]
    optimizer = Adam(groups, lr=0.1)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)

    with watch(model, optimizer) as watched:
        for seed in range(2):
            model(batch(seed)).mean().backward()
            optimizer.step()
            scheduler.step()

        assert [report.learning_rates for report in watched.reports] == [(0.125, 0.5), (0.0625, 0.25)]


def test_samples_are_those_of_the_batches_of_all_micro_steps():
    """A step's samples are counted in the batches that the DataLoader gave to its micro-steps."""
    model = network()
    optimizer = SGD(model.parameters(), 0.1)

    with watch(model, optimizer) as watched:
        for index, inputs in enumerate(DataLoader(samples(14), batch_size=4)):
            model(inputs).mean().backward()
            if index % 2:
                optimizer.step()

        assert [report.samples for report in watched.reports] == [8, 6]
        assert all(report.samples_per_second > 0 for report in watched.reports)
