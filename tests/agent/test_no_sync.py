"""Laws of the training thread: no value of the model's is read on the host, and nothing of the loop's is kept."""

from __future__ import annotations

import copy
import gc
import json
import os
import shutil
import subprocess
import sys
import tracemalloc
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tests import fake_cuda
from tests.workload import mlp
from tests.workloads import MAKERS
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

import loopscope

_HOST_READS = {"_local_scalar_dense", "item", "nonzero", "bincount", "masked_select", "equal", "is_nonzero", "_unique2"}
_SAMPLED_ALWAYS, _SAMPLED_ONCE = 1.0, 1e-9


class _Recorder(TorchDispatchMode):
    """Names of the operations that ran, and copies from one device to another that wait."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[str] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.operations.append(function._schema.name.removeprefix("aten::"))
        return function(*args, **(kwargs or {}))


def _plain(model: torch.nn.Module, optimizer: torch.optim.Optimizer, x: Tensor) -> None:
    model(x).square().mean().backward()
    optimizer.step()
    optimizer.zero_grad()


@pytest.fixture(scope="module")
def fake_cuda_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[subprocess.Popen[str]]:
    """tests/fake_cuda.py in a process of its own, whose CUDA guard no other test shall see."""
    if shutil.which("g++") is None:
        pytest.skip("the device guard needs g++")
    folder, library = tmp_path_factory.mktemp("guard"), Path(torch.__file__).parent
    (folder / "guard.cpp").write_text(fake_cuda.GUARD_SOURCE)
    flags = ["-std=c++20", "-shared", "-fPIC", f"-I{library / 'include'}", f"-L{library / 'lib'}", "-lc10"]
    subprocess.run(["g++", "guard.cpp", "-o", "guard.so", *flags], cwd=folder, check=True)
    command = [sys.executable, fake_cuda.__file__, str(folder / "guard.so")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(command, env=environment, text=True, stdin=-1, stdout=-1) as process:
        yield process
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(30) == 0


@pytest.mark.parametrize("budget", fake_cuda.BUDGETS)
@pytest.mark.parametrize("dtype", fake_cuda.DTYPES)
@pytest.mark.parametrize("shapes", fake_cuda.SHAPES)
@pytest.mark.parametrize("step", fake_cuda.STEPS)
def test_no_hook_reads_a_cuda_tensor(
    step: str, shapes: str, dtype: str, budget: str, fake_cuda_process: subprocess.Popen[str]
) -> None:
    """Fake CUDA tensors raise where the host asks for a value; our hooks raise nothing and see every step."""
    assert fake_cuda_process.stdin is not None
    assert fake_cuda_process.stdout is not None
    print(step, shapes, dtype, budget, file=fake_cuda_process.stdin, flush=True)

    assert json.loads(fake_cuda_process.stdout.readline()) == ""


def test_a_read_under_fake_tensors_would_raise() -> None:
    """The law above has teeth: one `.item()` in the loop fails there."""
    with FakeTensorMode(), pytest.raises(Exception, match="_local_scalar_dense"):
        torch.ones((), device="cuda").item()


@pytest.mark.parametrize("budget", [_SAMPLED_ALWAYS, _SAMPLED_ONCE])
@pytest.mark.parametrize("name", ["resnet", "gpt", "gan", "gradient-penalty", "in-backward", "dropout-and-skips"])
def test_no_operation_of_ours_reads_on_the_host(name: str, budget: float) -> None:
    """With the agent no operation that waits for a device runs more often than without it."""
    counts = []
    for is_attached in (False, True):
        torch.manual_seed(0)
        workload = MAKERS[name]()
        agent = loopscope.attach(workload.model, workload.optimizer, port=None, overhead_budget=budget)
        if not is_attached:
            agent.detach()
        with agent, _Recorder() as recorder:
            for index in range(12):
                workload.step(index)
        counts.append([sum(operation == read for operation in recorder.operations) for read in sorted(_HOST_READS)])

    assert counts[1] == counts[0]


class _Canary:
    """Something that lives as long as the graph."""


class _Carry(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, canary: _Canary) -> Tensor:
        ctx.canary = canary
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        return gradients[0], None


@pytest.mark.parametrize("budget", [_SAMPLED_ALWAYS, _SAMPLED_ONCE])
def test_gradients_activations_and_losses_die(budget: float) -> None:
    """After zero_grad and the names going, no gradient, activation, loss or graph of the step is alive."""
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    kept: list[weakref.ref[Any]] = []

    def step() -> None:
        canary = _Canary()
        y = _Carry.apply(model(torch.randn(4, 8)), canary)
        loss = y.square().mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        kept.extend([weakref.ref(y), weakref.ref(loss), weakref.ref(canary)])
        kept.extend(weakref.ref(p.grad) for p in model.parameters())
        optimizer.step()
        optimizer.zero_grad()

    with loopscope.attach(model, optimizer, port=None, overhead_budget=budget) as agent:
        gc.disable()
        try:
            for _ in range(3):
                step()
            alive = [reference for reference in kept if reference() is not None]
        finally:
            gc.enable()
        assert agent.is_attached

    assert alive == []


@pytest.mark.parametrize("budget", [_SAMPLED_ALWAYS, _SAMPLED_ONCE])
def test_parameters_die_with_model_and_optimizer(budget: float) -> None:
    """The agent keeps no parameter alive: with the user's names gone they are collected."""
    model = mlp()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    with loopscope.attach(model, optimizer, port=None, overhead_budget=budget):
        _plain(model, optimizer, torch.randn(4, 8))
        references = [weakref.ref(p) for p in model.parameters()] + [weakref.ref(model), weakref.ref(optimizer)]
        del model, optimizer
        gc.collect()
        alive = [reference for reference in references if reference() is not None]

    assert alive == []


def test_replaced_parameters_die() -> None:
    """Parameters that the loop has replaced everywhere are not kept by the agent's tables."""
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with loopscope.attach(model, optimizer, port=None, overhead_budget=_SAMPLED_ALWAYS):
        _plain(model, optimizer, torch.randn(4, 8))
        old = weakref.ref(model[2].weight)
        model.load_state_dict(copy.deepcopy(model.state_dict()), assign=True)
        optimizer.param_groups[0]["params"] = list(model.parameters())
        optimizer.state.clear()
        _plain(model, optimizer, torch.randn(4, 8))
        gc.collect()

        assert old() is None


@pytest.mark.parametrize("budget", [_SAMPLED_ALWAYS, _SAMPLED_ONCE])
def test_memory_is_bounded(budget: float) -> None:
    """1,000 further steps add no Python memory to speak of: under 100 bytes a step, of which history is the most."""
    model = mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x = torch.randn(4, 8)
    with loopscope.attach(model, optimizer, port=None, overhead_budget=budget, window_steps=100, history=4) as agent:

        def steps(number: int) -> None:
            for _ in range(number):
                _plain(model, optimizer, x)
            agent.flush()
            gc.collect()

        steps(300)
        tracemalloc.start()
        steps(100)
        before, _ = tracemalloc.get_traced_memory()
        steps(1_000)
        after, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()

    assert after - before < 100_000
