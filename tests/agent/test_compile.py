"""Laws of torch.compile: with an agent there is no graph, no break and no recompilation that is not there without."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
import torch
from tests.workload import mlp
from torch import Tensor, nn
from torch._dynamo.utils import counters, get_compilation_metrics
from torch.utils.data import DataLoader, TensorDataset

import loopscope
from loopscope_exporters.memory import MemoryExporter

_NUM_STEPS = 6
_Loop = Callable[[Callable[[int, Any, Any], None]], None]
"""A loop that calls back with its step number, model and optimizer before each step."""


class _Work(NamedTuple):
    """What dynamo did."""

    num_graphs: int
    breaks: Counter[str]
    num_compilations: int
    num_recompilations: int
    num_compilations_before: tuple[int, ...]
    """At the begin of each step."""

    @property
    def num_breaks(self) -> int:
        return sum(self.breaks.values())


def _x(rows: int = 4) -> Tensor:
    return torch.ones(rows, 8)


def _plain(before: Callable[[int, Any, Any], None], **settings: Any) -> None:
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    compiled = torch.compile(model, backend="aot_eager", **settings)
    for index in range(_NUM_STEPS):
        before(index, compiled, optimizer)
        compiled(_x()).square().mean().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()


def _compiled_in_place(before: Callable[[int, Any, Any], None]) -> None:
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model.compile(backend="aot_eager")
    for index in range(_NUM_STEPS):
        before(index, model, optimizer)
        model(_x()).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()


def _compiled_later(before: Callable[[int, Any, Any], None]) -> None:
    """The model is attached eager and compiled after some steps."""
    model = mlp()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    callee: Any = model
    for index in range(_NUM_STEPS):
        before(index, model, optimizer)
        if index == 2:
            callee = torch.compile(model, backend="aot_eager")
        callee(_x()).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()


def _whole_step(before: Callable[[int, Any, Any], None]) -> None:
    """A compiled function that itself calls backward, clips, steps and zeroes."""
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    @torch.compile(backend="aot_eager")
    def step(x: Tensor) -> None:
        model(x).square().mean().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    for index in range(_NUM_STEPS):
        before(index, model, optimizer)
        step(_x())


def _whole_step_module_zeroes(before: Callable[[int, Any, Any], None]) -> None:
    model = mlp()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)

    @torch.compile(backend="aot_eager")
    def step(x: Tensor) -> None:
        model.zero_grad()
        torch.autograd.backward(model(x).square().mean())
        optimizer.step()

    for index in range(_NUM_STEPS):
        before(index, model, optimizer)
        step(_x())


def _compiled_optimizer(before: Callable[[int, Any, Any], None]) -> None:
    model = mlp()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    update = torch.compile(optimizer.step, backend="aot_eager")
    for index in range(_NUM_STEPS):
        before(index, model, optimizer)
        model(_x()).square().mean().backward()
        update()
        optimizer.zero_grad()


def _optimizer_in_function(before: Callable[[int, Any, Any], None]) -> None:
    model = mlp()
    optimizer = torch.optim.Adam(model.parameters(), lr=torch.tensor(0.1), capturable=False, foreach=False)

    @torch.compile(backend="aot_eager")
    def update() -> None:
        optimizer.step()

    for index in range(_NUM_STEPS):
        before(index, model, optimizer)
        model(_x()).square().mean().backward()
        update()
        model.zero_grad()


def _loader_inside(before: Callable[[int, Any, Any], None]) -> None:
    """A compiled function that iterates a DataLoader and trains."""
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    loader = DataLoader(TensorDataset(torch.ones(8, 8)), batch_size=4)

    @torch.compile(backend="aot_eager")
    def epoch() -> None:
        for (x,) in loader:
            model(x).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()

    for index in range(_NUM_STEPS):
        before(index, model, optimizer)
        epoch()


def _scaled(before: Callable[[int, Any, Any], None]) -> None:
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu")
    forward = torch.compile(lambda x: model(x).square().mean(), backend="aot_eager")
    for index in range(_NUM_STEPS):
        before(index, model, optimizer)
        scaler.scale(forward(_x())).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()


def _closure(before: Callable[[int, Any, Any], None]) -> None:
    model = mlp()
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.05, max_iter=2)

    @torch.compile(backend="aot_eager")
    def forward(x: Tensor) -> Tensor:
        return model(x).square().mean()

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = forward(_x())
        loss.backward()
        return loss

    for index in range(_NUM_STEPS):
        before(index, model, optimizer)
        optimizer.step(closure)


def _changing_shapes(before: Callable[[int, Any, Any], None]) -> None:
    """Recompilations that the loop brings itself stay as many."""
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    compiled = torch.compile(model, backend="aot_eager")
    for index in range(_NUM_STEPS):
        before(index, compiled, optimizer)
        compiled(_x(3 + index)).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()


_LOOPS: dict[str, _Loop] = {
    loop.__name__.removeprefix("_").replace("_", "-"): loop
    for loop in (
        _plain, _compiled_in_place, _compiled_later, _whole_step, _whole_step_module_zeroes,
        _compiled_optimizer, _optimizer_in_function, _loader_inside, _scaled, _closure, _changing_shapes,
    )
} | {"fullgraph": lambda before: _plain(before, fullgraph=True)}  # fmt: skip
_STEPPING = ["whole-step", "whole-step-module-zeroes", "compiled-optimizer", "optimizer-in-function", "loader-inside"]
"""Loops whose compiled functions themselves call backward or step, so that dynamo guards on torch's list of hooks."""
_FORWARD = [name for name in _LOOPS if name not in _STEPPING]


@pytest.fixture(autouse=True)
def _fresh_dynamo() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def _work_of(loop: _Loop, attach_at: int | None, detach_at: int | None = None) -> tuple[_Work, MemoryExporter]:
    """Run a loop from nothing and count; the agent is there from `attach_at` until `detach_at` or the end."""
    torch._dynamo.reset()
    torch._dynamo.utils.clear_compilation_metrics()
    counters.clear()
    torch.manual_seed(0)
    memory = MemoryExporter()
    agents: list[Any] = []
    num_before: list[int] = []

    def before(index: int, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        num_before.append(len(get_compilation_metrics()))
        if index == attach_at:
            agents.append(loopscope.attach(model, optimizer, port=None, exporters=(memory,)))
        if index == detach_at:
            agents[0].detach()

    loop(before)
    for agent in agents:
        agent.detach()
        assert agent.internal_errors == {}
    metrics = get_compilation_metrics()
    num_recompilations = sum(bool(getattr(metric, "recompile_reason", None)) for metric in metrics)
    work = _Work(
        counters["stats"]["unique_graphs"],
        Counter(counters["graph_break"]),
        len(metrics),
        num_recompilations,
        tuple(num_before),
    )
    return work, memory


def _assert_nothing_added(watched: _Work, bare: _Work) -> None:
    assert watched.num_graphs <= bare.num_graphs
    assert watched.num_breaks <= bare.num_breaks, watched.breaks - bare.breaks
    assert watched.num_recompilations <= bare.num_recompilations
    assert watched.num_compilations <= bare.num_compilations


@pytest.mark.parametrize("name", _LOOPS)
def test_nothing_is_added(name: str) -> None:
    """An agent that is there from the first step adds no graph, break, compilation or recompilation."""
    bare, _ = _work_of(_LOOPS[name], None)

    watched, _ = _work_of(_LOOPS[name], 0)

    _assert_nothing_added(watched, bare)


@pytest.mark.parametrize(("attach_at", "detach_at"), [(3, None), (0, 3), (2, 4)])
@pytest.mark.parametrize("name", _FORWARD)
def test_nothing_is_added_midway(name: str, attach_at: int, detach_at: int | None) -> None:
    """An agent that comes when all is compiled, or leaves before the end, adds nothing either."""
    bare, _ = _work_of(_LOOPS[name], None)

    watched, _ = _work_of(_LOOPS[name], attach_at, detach_at)

    _assert_nothing_added(watched, bare)


@pytest.mark.parametrize(("attach_at", "detach_at"), [(3, None), (0, 3)])
@pytest.mark.parametrize("name", _STEPPING)
def test_compiled_steps_settle_after_a_change_midway(name: str, attach_at: int, detach_at: int | None) -> None:
    """Where a compiled function itself steps, hooks that come or go are guarded on: it settles within two steps."""
    watched, _ = _work_of(_LOOPS[name], attach_at, detach_at)

    assert watched.num_compilations_before[5] == watched.num_compilations


@pytest.mark.parametrize("name", ["plain", "fullgraph", "compiled-in-place", "compiled-later", "compiled-optimizer",
                                  "optimizer-in-function", "whole-step", "scaled", "closure"])  # fmt: skip
def test_steps_of_compiled_loops_are_seen(name: str) -> None:
    """Compiled or not, each step is reported with its gradients."""
    _, memory = _work_of(_LOOPS[name], 0)

    assert [report.step for report in memory.steps] == list(range(_NUM_STEPS))
    assert all(report.gradients is not None and report.gradients.global_norm > 0 for report in memory.steps)
