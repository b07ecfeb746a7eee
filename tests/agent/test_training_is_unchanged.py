"""Laws of training: losses, weights, optimizer states and random numbers are the same bits with and without us."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
import torch
from tests.workload import Workload
from tests.workloads import MAKERS
from torch import Tensor, nn

import loopscope
from loopscope_exporters.memory import MemoryExporter

_NUM_STEPS = 50
_needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="inductor needs g++")
_NAMES = [pytest.param(name, marks=_needs_compiler) if "inductor" in name else name for name in MAKERS]


class _Outcome(NamedTuple):
    losses: tuple[bytes, ...]
    weights: tuple[bytes, ...]
    states: tuple[bytes, ...]
    random_state: bytes
    reports: tuple[loopscope.StepReport, ...] = ()


def _bits(tensor: Tensor) -> bytes:
    dense = tensor.detach().resolve_conj().resolve_neg().contiguous()
    return bytes(dense.view(torch.uint8).numpy()) if dense.dim() else bytes(dense.view(1).view(torch.uint8).numpy())


def _tensors(value: Any) -> Iterator[Tensor]:
    """All tensors in a nest of modules, optimizers and containers; other values are left out."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, nn.Module):
        yield from value.state_dict().values()
    elif isinstance(value, torch.optim.Optimizer):
        yield from _tensors(value.state_dict())
    elif isinstance(value, dict | list | tuple):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _tensors(each)


def _all_bits(value: Any) -> tuple[bytes, ...]:
    return tuple(_bits(tensor) for tensor in _tensors(value))


def _train(workload: Workload, num_steps: int = _NUM_STEPS) -> _Outcome:
    losses = tuple(_bits(workload.step(index)) for index in range(num_steps))
    return _Outcome(
        losses, _all_bits(workload.model), _all_bits(workload.optimizer), _bits(torch.random.get_rng_state())
    )


def _bare(make: Callable[[], Workload]) -> _Outcome:
    torch._dynamo.reset()
    torch.manual_seed(0)
    return _train(make())


def _watched(make: Callable[[], Workload], **settings: Any) -> _Outcome:
    torch._dynamo.reset()
    torch.manual_seed(0)
    workload, memory = make(), MemoryExporter()
    with loopscope.attach(workload.model, workload.optimizer, port=None, exporters=(memory,), **settings) as agent:
        outcome = _train(workload)
        assert agent.flush()
    assert agent.internal_errors == {}
    return outcome._replace(reports=memory.steps)


def _assert_same(one: _Outcome, other: _Outcome) -> None:
    assert one.losses == other.losses
    assert one.weights == other.weights
    assert one.states == other.states
    assert one.random_state == other.random_state


@pytest.mark.filterwarnings("ignore:Using backward.. with create_graph=True:UserWarning")
@pytest.mark.parametrize("name", _NAMES)
def test_training_is_the_same_bit_for_bit(name: str) -> None:
    """50 steps give the same losses, weights, optimizer states and random numbers, and each step is reported."""
    bare = _bare(MAKERS[name])

    watched = _watched(MAKERS[name])

    _assert_same(watched, bare)
    assert sum(report.num_steps + sum(report.num_skipped.values()) for report in watched.reports) >= _NUM_STEPS


@pytest.mark.filterwarnings("ignore:Using backward.. with create_graph=True:UserWarning")
@pytest.mark.parametrize("name", ["resnet", "gan", "amp-bfloat16", "sparse", "lbfgs", "complex", "backward-with-graph"])
def test_sampling_every_step_changes_nothing(name: str) -> None:
    """With a budget that lets every step be sampled the bits are the same as well."""
    bare = _bare(MAKERS[name])

    watched = _watched(MAKERS[name], overhead_budget=1.0)

    _assert_same(watched, bare)


@pytest.mark.filterwarnings("ignore:Using backward.. with create_graph=True:UserWarning")
@pytest.mark.parametrize("name", ["gpt", "gan", "amp-float16", "amp-fused-adam-clipped", "sparse", "lbfgs", "complex",
                                  "backward-with-graph", "gradient-penalty", "compiled-aot-eager"])  # fmt: skip
def test_simulated_syncs_change_nothing(name: str) -> None:
    """With the CPU taken for a device, looked into at each step, the bits are the same as well."""
    bare = _bare(MAKERS[name])

    watched = _watched(MAKERS[name], sync_device="cpu")

    _assert_same(watched, bare)


@pytest.mark.parametrize("name", ["amp-bfloat16", "amp-float16", "amp-fused-adam", "amp-fused-adam-clipped"])
def test_skipped_steps_are_skipped_alike(name: str) -> None:
    """The induced overflows are there, and each is reported as skipped by the GradScaler, not as a step."""
    watched = _watched(MAKERS[name])

    skipped = [index for index, report in enumerate(watched.reports) if report.skipped == "grad_scaler"]
    assert skipped == [index for index in range(_NUM_STEPS) if index % 7 == 3]


@pytest.mark.parametrize("name", ["resnet", "gan", "amp-fused-adam", "lbfgs"])
def test_attaching_and_detaching_midway_changes_nothing(name: str) -> None:
    """An agent that comes and goes at any step leaves the same bits behind."""
    bare = _bare(MAKERS[name])
    torch.manual_seed(0)
    workload = MAKERS[name]()
    memory = MemoryExporter()

    before = _train(workload, 10)
    with loopscope.attach(workload.model, workload.optimizer, port=None, exporters=(memory,)):
        during = [_bits(workload.step(index)) for index in range(10, 30)]
    after = [_bits(workload.step(index)) for index in range(30, _NUM_STEPS)]

    assert (*before.losses, *during, *after) == bare.losses
    assert _all_bits(workload.model) == bare.weights


def test_model_in_evaluation_is_left_alone() -> None:
    """Forward passes without a backward give the same outputs and reports nothing."""
    torch.manual_seed(0)
    workload, memory = MAKERS["resnet"](), MemoryExporter()
    workload.model.eval()
    x = torch.randn(2, 3, 12, 12)
    expected = _bits(workload.model(x))

    with loopscope.attach(workload.model, workload.optimizer, port=None, exporters=(memory,)):
        seen = _bits(workload.model(x))

    assert seen == expected
    assert memory.steps == ()
