"""Laws of what is counted once, or not at all: a wait inside of a counted call, and what the agent reads itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tests.loops import network, watch
from tests.syncing import SIMULATED, stand_in, waiting
from torch import Tensor
from torch.utils.checkpoint import checkpoint

_METHODS = {"item": Tensor.item, "bool": bool, "float": float, "tolist": Tensor.tolist, "cpu": Tensor.cpu}


class _OnDevice(Tensor):
    """A tensor that says that it is on CUDA."""

    is_cpu = False
    device = SimpleNamespace(type="cuda")


def _kinds(watched: Any) -> Counter[str]:
    assert watched.agent.flush(10)
    report = watched.memory.latest_activity
    found = {} if report is None else report.counters.get("loopscope.device.syncs", {})
    return Counter({kind: int(value) for (_, kind), value in found.items()})


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("kind", _METHODS)
def test_a_method_is_one_wait_though_cuda_warns_of_it_too(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """On a step with CUDA's warnings on, `x.item()` is what it is on any other: one `item`."""
    waits, name = waiting(stand_in(monkeypatch)), f"__{kind}__" if kind in {"bool", "float"} else kind
    original = getattr(Tensor, name)
    monkeypatch.setattr(Tensor, name, waits.before(lambda self: original(self.as_subclass(Tensor))))
    value = torch.ones(()).as_subclass(_OnDevice)
    with watch(network()) as watched:
        for _ in range(3):
            _METHODS[kind](value)

        assert _kinds(watched) == Counter({kind: 3})


def _compared(x: Tensor) -> Tensor:
    y = x.exp()
    y.data[::2].mul_(1.0)
    return y


def _changed(x: Tensor) -> Tensor:
    y = x.exp()
    y.data.mul_(2.0)
    return y


def _recomputed(x: Tensor) -> Tensor:
    def region(x: Tensor) -> Tensor:
        return torch.relu_(x * 2).exp()

    result: Tensor = checkpoint(region, x, use_reentrant=False)
    return result


_WRITING = pytest.mark.parametrize("program", [_compared, _changed, _recomputed])


@_WRITING
def test_what_watches_in_place_operations_reads_for_itself(program: Callable[[Tensor], Tensor]) -> None:
    """It compares values where PyTorch checks nothing: the simulation counts none of it."""
    with watch(network(), **SIMULATED) as watched:
        program(torch.ones(4, requires_grad=True)).sum().backward()

        assert _kinds(watched) == Counter()


@pytest.mark.filterwarnings("default")
@_WRITING
def test_nor_do_cudas_warnings_of_it_count(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], program: Callable[[Tensor], Tensor]
) -> None:
    """Its comparisons wait on CUDA, and CUDA warns of them: nobody's line is blamed, and nothing is shown."""
    waits = waiting(stand_in(monkeypatch))
    for name in ("equal", "allclose"):
        monkeypatch.setattr(torch, name, waits.before(getattr(torch, name)))
    with watch(network()) as watched:
        program(torch.ones(4, requires_grad=True)).sum().backward()

        assert _kinds(watched) == Counter()
    assert "synchronizing" not in capsys.readouterr().err
    assert bool(waits.num_calls) == (program is not _recomputed)
