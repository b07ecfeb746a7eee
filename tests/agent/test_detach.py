"""Laws of detach: everything is as it was before, and what changes under way is followed."""

from __future__ import annotations

import functools
import gc
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from tests.workload import mlp
from torch import nn
from torch.amp.grad_scaler import GradScaler
from torch.nn.utils import clip_grad
from torch.optim import Optimizer
from torch.optim.optimizer import (
    _global_optimizer_post_hooks,
    _global_optimizer_pre_hooks,
    register_optimizer_step_pre_hook,
)
from torch.utils.data.dataloader import _BaseDataLoaderIter

import loopscope
from loopscope.hooks import num_patches, patches
from loopscope_exporters.memory import MemoryExporter

_PATCHED: list[tuple[Any, str]] = [
    (torch.autograd, "backward"),
    (Optimizer, "zero_grad"),
    (nn.Module, "zero_grad"),
    (GradScaler, "scale"),
    (GradScaler, "unscale_"),
    (GradScaler, "_maybe_opt_step"),
    (_BaseDataLoaderIter, "__next__"),
    (clip_grad, "_clip_grads_with_norm_"),
]


def _pair() -> tuple[nn.Sequential, Optimizer]:
    model = mlp()
    return model, torch.optim.SGD(model.parameters(), lr=0.1)


def _train(model: nn.Module, optimizer: Optimizer, num_steps: int = 1) -> None:
    for _ in range(num_steps):
        model(torch.randn(4, 8)).square().mean().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()


def _functions() -> list[Any]:
    return [vars(owner)[name] for owner, name in _PATCHED]


def _hooks() -> list[Any]:
    return [*_functions(), dict(_global_optimizer_pre_hooks), dict(_global_optimizer_post_hooks), num_patches()]


def _attach(*args: Any, **settings: Any) -> Any:
    return loopscope.attach(*args, **({"port": None, "log_events": False} | settings))


def test_detach_restores_each_function_and_hook() -> None:
    """Attached they are others; detached they are the very objects from before."""
    before = _hooks()
    with _attach(*_pair()):
        during = _functions()

    assert all(one is not other for one, other in zip(during, before, strict=False))
    assert _hooks() == before


def test_detach_restores_after_an_exception_in_the_loop() -> None:
    """The context manager takes the hooks out and lets the exception pass."""
    before = _hooks()

    with pytest.raises(KeyboardInterrupt), _attach(*_pair()):
        raise KeyboardInterrupt

    assert _hooks() == before


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2)])
def test_agents_leave_in_any_order(order: tuple[int, ...]) -> None:
    """Patches are shared: those who stay still see their steps, and the last one out restores."""
    before = _hooks()
    pairs = [_pair() for _ in range(3)]
    memories = [MemoryExporter() for _ in pairs]
    agents = [_attach(*pair, exporters=(memory,)) for pair, memory in zip(pairs, memories, strict=True)]
    for index in order:
        for pair in pairs:
            _train(*pair)
        agents[index].detach()

    assert _hooks() == before
    assert [len(memory.steps) for memory in memories] == [order.index(index) + 1 for index in range(3)]


def test_detach_twice_is_detach_once() -> None:
    """A second detach, and what is called after it, does nothing and raises nothing."""
    agent = _attach(*_pair())
    agent.detach()
    before = _hooks()

    agent.detach()
    agent.log(loss=1.0)
    agent.epoch()

    assert _hooks() == before
    assert not agent.is_attached
    assert agent.url is None


class _Foreign:
    """A patch of somebody else's, put on and taken off as such code does."""

    def __init__(self, owner: Any, name: str) -> None:
        self._owner, self._name, self._original = owner, name, vars(owner)[name]
        self.num_calls = 0

        @functools.wraps(self._original)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            self.num_calls += 1
            return self._original(*args, **kwargs)

        setattr(owner, name, wrapper)

    def remove(self) -> None:
        setattr(self._owner, self._name, self._original)


@pytest.fixture
def clean_functions() -> Iterator[None]:
    """Whatever a test leaves patched is put back by hand."""
    before = _functions()
    yield
    for (owner, name), function in zip(_PATCHED, before, strict=True):
        setattr(owner, name, function)
    patches._patches.clear()


@pytest.mark.usefixtures("clean_functions")
def test_foreign_patch_on_top_of_ours_survives_detach() -> None:
    """Somebody who patched after us keeps the patch when we leave."""
    agent = _attach(*_pair())
    foreign = _Foreign(Optimizer, "zero_grad")
    agent.detach()
    _train(*_pair())

    assert foreign.num_calls == 1


@pytest.mark.usefixtures("clean_functions")
def test_foreign_patch_survives_the_next_attach() -> None:
    """An agent that comes after it does not throw the foreign patch away, and sees the steps as well."""
    _attach(*_pair()).detach()
    agent = _attach(*_pair())
    foreign = _Foreign(torch.autograd, "backward")
    agent.detach()
    model, optimizer = _pair()
    memory = MemoryExporter()
    with _attach(model, optimizer, exporters=(memory,)):
        _train(model, optimizer)
    _train(model, optimizer)

    assert foreign.num_calls == 2
    assert memory.steps[0].micro_steps == 1


@pytest.mark.usefixtures("clean_functions")
def test_original_is_back_when_all_have_left() -> None:
    """Ours and a foreign patch come and go interleaved; after one more attach and detach the original is in place."""
    original = vars(torch.autograd)["backward"]
    agent = _attach(*_pair())
    foreign = _Foreign(torch.autograd, "backward")
    agent.detach()
    foreign.remove()
    _attach(*_pair()).detach()

    assert vars(torch.autograd)["backward"] is original


@pytest.mark.usefixtures("clean_functions")
def test_foreign_patch_below_ours_is_restored() -> None:
    """Somebody who patched before us is in place again when we leave."""
    foreign = _Foreign(nn.Module, "zero_grad")
    theirs = vars(nn.Module)["zero_grad"]
    _attach(*_pair()).detach()

    assert vars(nn.Module)["zero_grad"] is theirs
    foreign.remove()


def test_hundred_times_leave_nothing_behind(tmp_path: Path) -> None:
    """After 100 attachments hooks, threads, sockets, files and memory are where they were after a few."""
    process = psutil.Process()
    model, optimizer = _pair()

    def use() -> None:
        with _attach(model, optimizer, port=0, jsonl=str(tmp_path / "log.jsonl")):
            _train(model, optimizer, 2)

    def state() -> list[Any]:
        gc.collect()
        return [*_hooks(), threading.active_count(), process.num_fds(), len(process.net_connections("tcp"))]

    for _ in range(3):
        use()
    before, num_objects = state(), len(gc.get_objects())
    for _ in range(100):
        use()

    assert state() == before
    assert len(gc.get_objects()) - num_objects < 1_000


def test_port_is_free_after_detach() -> None:
    """The address can be bound again at once."""
    agent = _attach(*_pair(), port=0)
    port = int(agent.url.rsplit(":", 1)[1])
    agent.detach()

    with socket.create_server(("127.0.0.1", port)):
        pass


def test_detach_on_another_thread_spares_the_step_under_way() -> None:
    """Hooks leave when no other thread is among torch's step hooks: its loop would raise, as when an agent closes."""
    agent, (_, optimizer) = _attach(*_pair()), _pair()
    detaching = threading.Thread(target=agent.detach)

    def begin(*_: Any) -> None:
        detaching.start()
        detaching.join(0.05)

    handle = register_optimizer_step_pre_hook(begin)
    try:
        optimizer.step()
    finally:
        handle.remove()
        detaching.join()

    assert not _global_optimizer_pre_hooks
