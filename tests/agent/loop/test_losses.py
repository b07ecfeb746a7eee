"""Laws of the loss: what is read at backward, unscaled and summed, and what the loop says itself."""

from __future__ import annotations

import math

import pytest
import torch
from tests.loops import batch, network, watch
from torch import nn
from torch.optim import SGD


@pytest.fixture
def loop():
    """A model, an optimizer, and the agent on them."""
    model = network()
    optimizer = SGD(model.parameters(), 0.1)
    with watch(model, optimizer) as watched:
        yield model, optimizer, watched


def _loss(model: nn.Module, seed: int = 0) -> torch.Tensor:
    loss: torch.Tensor = model(batch(seed)).square().mean()
    return loss


def test_loss_is_the_sum_over_the_micro_steps(loop):
    """The loss of a step is the sum of the roots of its backwards, as its gradient is the sum of theirs."""
    model, optimizer, watched = loop
    losses = [_loss(model, seed) / 4 for seed in range(4)]
    for loss in losses:
        loss.backward()
    optimizer.step()

    assert watched.only.loss == pytest.approx(math.fsum(loss.item() for loss in losses), rel=1e-6)
    assert watched.only.loss_source == "backward"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_loss_keeps_the_value_of_its_dtype(loop, dtype):
    """A loss of any floating dtype arrives with the value that it had."""
    model, optimizer, watched = loop
    loss = _loss(model).to(dtype)
    loss.backward()
    optimizer.step()

    assert watched.only.loss == pytest.approx(loss.item(), rel=1e-7)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_losses_of_few_digits_are_summed_in_more(loop, dtype):
    """Micro-steps in half precision add up in single precision."""
    model, optimizer, watched = loop
    losses = [(1.0 + _loss(model, seed)).to(dtype) for seed in range(8)]
    for loss in losses:
        loss.backward()
    optimizer.step()

    assert watched.only.loss == pytest.approx(math.fsum(loss.item() for loss in losses), rel=1e-6)


@pytest.mark.parametrize("shape", [(1,), (1, 1)])
def test_loss_of_one_element_is_a_loss(loop, shape):
    """A root of one element is a loss, whatever its shape."""
    model, optimizer, watched = loop
    loss = _loss(model).reshape(shape)
    loss.backward()
    optimizer.step()

    assert watched.only.loss == loss.item()


def test_backward_from_a_vector_has_no_loss(loop):
    """Where the root is no scalar the loss is unknown, not zero; the step and its gradients are seen."""
    model, optimizer, watched = loop
    outputs = model(batch())
    outputs.backward(torch.ones_like(outputs))
    optimizer.step()

    assert (watched.only.loss, watched.only.loss_source) == (None, None)
    assert watched.only.gradients.global_norm > 0


def test_several_roots_add_up(loop):
    """A backward from several losses at once has their sum."""
    model, optimizer, watched = loop
    losses = [_loss(model), model(batch(1)).abs().mean()]
    torch.autograd.backward(losses)
    optimizer.step()

    assert watched.only.loss == pytest.approx(sum(loss.item() for loss in losses), rel=1e-6)
    assert watched.only.micro_steps == 1


def test_two_losses_scaled_before_either_backward_are_unscaled(loop):
    """Losses that a GradScaler scaled before the first of their backwards each lose the scale again."""
    model, optimizer, watched = loop
    scaler = torch.amp.GradScaler("cpu", init_scale=256.0)
    losses = [_loss(model), model(batch(1)).abs().mean()]
    for scaled in [scaler.scale(loss) for loss in losses]:
        scaled.backward()
    scaler.step(optimizer)

    assert watched.only.loss == pytest.approx(sum(loss.item() for loss in losses), rel=1e-6)


@pytest.mark.parametrize("when", ["before the step", "after the step"])
@pytest.mark.parametrize("make", [float, torch.tensor, lambda value: torch.tensor([value], requires_grad=True)])
def test_logged_loss_wins(loop, when, make):
    """A loss given to `agent.log`, a number or a tensor, before the step or right after it, is the step's loss."""
    model, optimizer, watched = loop
    for step in range(2):
        _loss(model).backward()
        if when == "before the step":
            watched.agent.log(loss=make(0.5 + step))
        optimizer.step()
        if when == "after the step":
            watched.agent.log(loss=make(0.5 + step))

    assert [(report.loss, report.loss_source) for report in watched.reports] == [(0.5, "log"), (1.5, "log")]


@pytest.mark.parametrize("when", ["before the step", "after the step"])
def test_logged_counts_and_values_are_the_steps(loop, when):
    """Samples, tokens and further values belong to their step alone."""
    model, optimizer, watched = loop
    for step in range(3):
        _loss(model).backward()
        if step == 1 and when == "before the step":
            watched.agent.log(samples=7, tokens=700, accuracy=torch.tensor(0.75), temperature=2)
        optimizer.step()
        if step == 1 and when == "after the step":
            watched.agent.log(samples=7, tokens=700, accuracy=torch.tensor(0.75), temperature=2)

    assert [report.samples for report in watched.reports] == [None, 7, None]
    assert [report.num_tokens for report in watched.reports] == [0, 700, 0]
    assert [dict(report.logged) for report in watched.reports] == [{}, {"accuracy": 0.75, "temperature": 2.0}, {}]
    assert watched.reports[1].loss_source == "backward"


def test_several_logs_of_a_step_are_one(loop):
    """What a later call gives is added, and wins where an earlier one gave the same."""
    model, optimizer, watched = loop
    _loss(model).backward()
    watched.agent.log(loss=3.0, samples=4)
    optimizer.step()
    watched.agent.log(loss=2.0, accuracy=0.5)

    assert (watched.only.loss, watched.only.samples, watched.only.num_samples) == (2.0, 4, 4)
    assert watched.only.logged == {"accuracy": 0.5}


def test_nan_loss_is_reported_as_it_is(loop):
    """A loss that is NaN is NaN in the report, not missing."""
    model, optimizer, watched = loop
    (_loss(model) * math.nan).backward()
    optimizer.step()

    assert math.isnan(watched.only.loss)


def test_loss_leaves_no_reference_to_the_graph(loop):
    """Nothing of the user's graph lives on in the agent once the loop has let go of the loss."""
    import weakref

    model, optimizer, watched = loop
    loss = _loss(model)
    reference = weakref.ref(loss)
    loss.backward()
    optimizer.step()
    del loss

    assert reference() is None
    assert watched.only.step == 0


def test_log_after_detach_does_nothing(loop):
    """Calls on a detached agent are harmless."""
    _, _, watched = loop
    watched.agent.detach()
    watched.agent.log(loss=1.0)
    watched.agent.epoch()

    assert watched.memory.steps == ()


class _Inner(SGD):
    """Does a backward of its own inside of its step, as optimizers that look ahead do, without a closure."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model.parameters(), 0.1)
        self.model = model

    def step(self, closure=None):
        """Step, after a look at another batch."""
        _loss(self.model, 7).backward()
        return super().step(closure)


def test_backward_inside_of_a_step_is_not_the_steps_loss():
    """The loss of a step is the one whose gradients the step was given, whatever the optimizer does then."""
    model = network()
    optimizer = _Inner(model)
    with watch(model, optimizer) as watched:
        losses = []
        for seed in range(3):
            optimizer.zero_grad()
            losses.append(_loss(model, seed))
            losses[-1].backward()
            optimizer.step()

    assert [report.loss for report in watched.reports] == pytest.approx([loss.item() for loss in losses], rel=1e-6)
