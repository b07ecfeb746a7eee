"""Laws of leaving: the watch goes off the stack of modes at the next chance, wherever it was disarmed."""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from tests.inplacing import mode_stack, model_and_optimizer, train_once
from tests.loops import batch, watch
from tests.waiting import wait_until
from torch import Tensor
from torch.optim.optimizer import _global_optimizer_pre_hooks

import loopscope


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    yield
    assert mode_stack() == []
    assert sys.getprofile() is None


def _detach_elsewhere(agent: Any) -> None:
    thread = threading.Thread(target=agent.detach)
    thread.start()
    thread.join()


def test_detached_by_another_thread_it_leaves_after_an_operator() -> None:
    """The mode cannot be taken off a stack that is another thread's."""
    with watch(*model_and_optimizer()) as watched:
        _detach_elsewhere(watched.agent)
        before = len(mode_stack())
        torch.ones(1).add(1)

        assert (before, len(mode_stack())) == (1, 0)


def test_detached_by_another_thread_before_backward_it_leaves_in_the_step() -> None:
    """Not within the backward: the engine would bring it back."""
    model, optimizer = model_and_optimizer()
    with watch(model, optimizer) as watched:
        loss = model(batch()).square().mean()
        _detach_elsewhere(watched.agent)
        loss.backward()
        optimizer.step()

        assert mode_stack() == []


def test_detached_inside_a_backward_that_fails_it_is_not_armed_again() -> None:
    """The failure comes after the agent has left: it is explained, and nothing is watched any more."""
    x = torch.ones(2, requires_grad=True)
    model, optimizer = model_and_optimizer()
    with watch(model, optimizer, inplace_armed_steps=1) as watched:
        train_once(model, optimizer)
        exponential = (x * 1).exp()
        loss = (exponential * 2).sum()
        loss.register_hook(lambda gradient: watched.agent.detach())
        exponential.add_(1)

        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            loss.backward()

        assert not watched.agent.is_attached
        torch.ones(1).add(1)
        assert mode_stack() == []


def test_an_agent_whose_optimizer_is_collected_leaves() -> None:
    """It closes itself on its worker thread."""
    model, optimizer = model_and_optimizer()
    agent = loopscope.attach(model, optimizer, port=None, log_events=False, inplace_armed_steps=100)
    train_once(model, optimizer)
    del optimizer
    gc.collect()
    wait_until(lambda: not agent.is_attached and not _global_optimizer_pre_hooks)
    before = len(mode_stack())
    model(batch())

    assert (before, len(mode_stack())) == (1, 0)


def test_a_step_within_backward_leaves_outside_of_it() -> None:
    """Optimizers that step in hooks of their parameters."""
    model, _ = model_and_optimizer()
    optimizers = {each: torch.optim.SGD([each], lr=0.1) for each in model.parameters()}
    for parameter, optimizer in optimizers.items():
        parameter.register_post_accumulate_grad_hook(lambda _, optimizer=optimizer: optimizer.step())
    with watch(model, list(optimizers.values()), inplace_armed_steps=1):
        lengths = []
        for _ in range(2 * len(optimizers)):
            model(batch()).square().mean().backward()
            lengths.append(len(mode_stack()))

        assert lengths[0] == 1
        assert lengths[-1] == 0


def test_a_step_that_is_compiled_as_a_whole_leaves_outside_of_it() -> None:
    """A compiled function brings the stack back to what it was when it began."""
    torch._dynamo.reset()
    model, optimizer = model_and_optimizer()

    def step(inputs: Tensor) -> None:
        optimizer.zero_grad()
        model(inputs).square().mean().backward()
        optimizer.step()

    compiled = torch.compile(step, backend="eager")
    with watch(model, optimizer, inplace_armed_steps=1):
        for _ in range(3):
            compiled(torch.randn(6, 4))

        assert mode_stack() == []
    torch._dynamo.reset()


def test_a_profile_function_of_the_users_stays() -> None:
    """Then the watch passes through until there is none."""
    calls: list[str] = []

    def profile(frame: Any, event: str, argument: Any) -> None:
        calls.append(event)

    pair = model_and_optimizer()
    with watch(*pair) as watched:
        _detach_elsewhere(watched.agent)
        sys.setprofile(profile)
        train_once(*pair)
        kept = sys.getprofile()
        sys.setprofile(None)
        lengths = [len(mode_stack())]
        torch.ones(1).add(1)
        lengths.append(len(mode_stack()))

    assert kept is profile
    assert lengths == [1, 0]
