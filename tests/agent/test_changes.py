"""Laws of what changes under way: parameters, wrappers, and processes that come from ours."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed
from tests.workload import mlp
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer
from torch.optim.optimizer import _global_optimizer_pre_hooks
from torch.utils.data import DataLoader, TensorDataset

import loopscope
from loopscope_exporters.memory import MemoryExporter


def _pair() -> tuple[nn.Sequential, Optimizer]:
    model = mlp()
    return model, torch.optim.SGD(model.parameters(), lr=0.1)


def _train(model: nn.Module, optimizer: Optimizer, num_steps: int = 1) -> None:
    for _ in range(num_steps):
        model(torch.randn(4, 8)).square().mean().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()


def _attach(*args: Any, **settings: Any) -> Any:
    return loopscope.attach(*args, **({"port": None, "log_events": False} | settings))


def _replace_module(model: nn.Sequential, optimizer: Optimizer) -> None:
    model[2] = nn.Linear(8, 8)
    optimizer.param_groups[0]["params"] = list(model.parameters())


def _assign(model: nn.Sequential, optimizer: Optimizer) -> None:
    model.load_state_dict({name: value.clone() for name, value in model.state_dict().items()}, assign=True)
    optimizer.param_groups[0]["params"] = list(model.parameters())


def _add_group(model: nn.Sequential, optimizer: Optimizer) -> None:
    model.append(nn.Linear(8, 8))
    optimizer.add_param_group({"params": list(model[-1].parameters()), "lr": 0.01})


def _freeze(model: nn.Sequential, optimizer: Optimizer) -> None:
    model[0].requires_grad_(False)


@pytest.mark.parametrize("change", [_replace_module, _assign, _add_group, _freeze])
def test_changes_under_way_are_followed(change: Callable[..., None]) -> None:
    """New parameters have their names and norms from the next step on; frozen ones have none."""
    model, optimizer = _pair()
    memory = MemoryExporter()
    with _attach(model, optimizer, exporters=(memory,)):
        _train(model, optimizer, 12)
        change(model, optimizer)
        for _ in range(2):
            model(torch.randn(4, 8)).square().mean().backward()
            norms = {n: float("nan") if p.grad is None else float(p.grad.norm()) for n, p in model.named_parameters()}
            optimizer.step()
            optimizer.zero_grad()

    table = memory.steps[-1].gradients
    assert table is not None
    assert dict(zip(table.names, table.norms.tolist(), strict=True)) == pytest.approx(norms, rel=1e-5, nan_ok=True)


@pytest.mark.parametrize("attach_first", [True, False])
def test_distributed_data_parallel(attach_first: bool, tmp_path: Path) -> None:
    """Wrapped before or after attach, the names are the model's own and the norms those of the reduced gradients."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    memory = MemoryExporter()
    try:
        model, optimizer = _pair()
        wrapped = model if attach_first else DistributedDataParallel(model)
        with _attach(wrapped, optimizer, exporters=(memory,)):
            trained = DistributedDataParallel(model) if attach_first else wrapped
            trained(torch.randn(4, 8)).square().mean().backward()
            total = float(torch.nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None]))
            optimizer.step()
    finally:
        torch.distributed.destroy_process_group()

    table = memory.steps[0].gradients
    assert table is not None
    assert table.names == tuple(name for name, _ in model.named_parameters())
    assert table.global_norm == pytest.approx(total, rel=1e-5)


@pytest.mark.parametrize("start_method", ["fork", "spawn"])
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_loader_workers_do_no_harm(start_method: str) -> None:
    """Batches that worker processes make are seen with their samples, and the epoch ends with the pass."""
    model, optimizer = _pair()
    memory = MemoryExporter()
    loader: DataLoader[tuple[Tensor, ...]] = DataLoader(
        TensorDataset(torch.randn(12, 8)), batch_size=4, num_workers=2, multiprocessing_context=start_method
    )
    with _attach(model, optimizer, exporters=(memory,)):
        for (x,) in loader:
            model(x).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()

    assert [report.samples for report in memory.steps] == [4, 4, 4]
    assert [epoch.num_samples for epoch in memory.epochs] == [12]


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_forked_child_is_not_watched_and_ends() -> None:
    """A child of os.fork trains without hooks and ends; the parent goes on being watched."""
    model, optimizer = _pair()
    memory = MemoryExporter()
    bare = torch.autograd.backward, Optimizer.zero_grad
    with _attach(model, optimizer, port=0, exporters=(memory,)) as agent:
        _train(model, optimizer)
        child = os.fork()
        if child == 0:
            _train(model, optimizer, 3)
            agent.detach()
            is_bare = (torch.autograd.backward, Optimizer.zero_grad) == bare and not _global_optimizer_pre_hooks
            os._exit(0 if is_bare else 1)
        _, status = os.waitpid(child, 0)
        _train(model, optimizer)

    assert os.waitstatus_to_exitcode(status) == 0
    assert [report.step for report in memory.steps] == [0, 1]


def _in_child(check: Callable[[], bool]) -> bool:
    """Return what `check` finds in a forked child."""
    child = os.fork()
    if child == 0:
        is_right = False
        try:
            is_right = check()
        finally:
            os._exit(0 if is_right else 1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_hooks_on_modules_stay_with_the_parent() -> None:
    """A child that is forked in the middle of a sampled step has none of the hooks that are on the model for it."""
    model, optimizer = _pair()
    with _attach(model, optimizer, activations=True, inplace_armed_steps=0) as agent:
        for _ in range(50):
            _train(model, optimizer)
            if any(module._forward_hooks for module in model):
                break
        assert any(module._forward_hooks for module in model)

        assert _in_child(lambda: not any(module._forward_hooks for module in model))
        assert agent.internal_errors == {}


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_no_agent_stays_in_the_child_for_the_fault_of_another() -> None:
    """Where taking out one hook fails in the child, the others are taken out all the same, and nothing runs."""
    pairs = [_pair() for _ in range(2)]
    agents = [_attach(*pair, name=name) for pair, name in zip(pairs, "ab", strict=True)]
    parent = os.getpid()

    def fail() -> None:
        if os.getpid() != parent:
            raise RuntimeError("cannot be taken out")

    for agent in agents:
        agent._hooks.on_remove(fail)

    def check() -> bool:
        spent = [agent._hooks.spent_ns for agent in agents]
        for pair in pairs:
            _train(*pair, 3)
        is_idle = spent == [agent._hooks.spent_ns for agent in agents]
        return is_idle and not any(agent.is_attached for agent in agents) and not _global_optimizer_pre_hooks

    is_right = _in_child(check)
    for agent in agents:
        agent.detach()

    assert is_right


def test_large_gradient_that_stays_away_is_absent() -> None:
    """A gradient that is None again, of a tensor that is read in chunks, is NaN and no fault."""
    model = nn.ModuleList([nn.Linear(600, 600), nn.Linear(600, 600)])
    optimizer, memory = torch.optim.SGD(model.parameters(), lr=0.1), MemoryExporter()
    with _attach(model, optimizer, exporters=(memory,)):
        for num_used in (2, 1, 2, 1):
            for layer in model[:num_used]:
                layer(torch.ones(1, 600)).sum().backward()
            optimizer.step()
            optimizer.zero_grad()

    assert [report.gradients.norms[2:].tolist() for report in memory.steps[1::2]] == [
        pytest.approx([math.nan] * 2, nan_ok=True)
    ] * 2
