"""Laws of torch.compile and the replaced functions: graphs, breaks and recompilations are those without them."""

from __future__ import annotations

import contextlib
import functools
import io
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
import torch
from tests.loops import network, watch
from torch import Tensor
from torch._dynamo.utils import counters, get_compilation_metrics

_NUM_CALLS = 4
_BACKENDS = [
    "eager",
    "aot_eager",
    pytest.param("inductor", marks=pytest.mark.skipif(shutil.which("g++") is None, reason="inductor needs g++")),
]
pytestmark = [
    pytest.mark.filterwarnings("ignore:Dynamo does not know how to trace"),
    pytest.mark.filterwarnings("ignore:.*Graph break:UserWarning"),
]


class _Work(NamedTuple):
    """What dynamo did, and what came of it."""

    num_graphs: int
    breaks: Counter[str]
    frames: tuple[tuple[str | None, str | None], ...]
    """Each compilation, with why it was one more."""
    statistics: dict[str, int]
    results: tuple[bytes, ...]


def _to(x: Tensor) -> Tensor:
    return x.to(torch.float64).to("cpu") * 2


def _cpu(x: Tensor) -> Tensor:
    return x.cpu() + 1


def _nonzero(x: Tensor) -> Tensor:
    return (x > 0).nonzero() * 2


def _item(x: Tensor) -> Tensor:
    return x * x.sum().item()


def _converted(x: Tensor) -> Tensor:
    return x * float(x.sum()) + int(x.sum())


def _one_hot(x: Tensor) -> Tensor:
    return torch.nn.functional.one_hot(x.long(), 32).sum() + x


def _mask(x: Tensor) -> Tensor:
    return x[x > 1].sum() * x


def _listed(x: Tensor) -> Tensor:
    return x + sum(x.tolist())


def _branch(x: Tensor) -> Tensor:
    if x.sum() > 3:
        return x * 2
    return x - 1


def _print(x: Tensor) -> Tensor:
    y = x + 1
    with contextlib.redirect_stdout(io.StringIO()):
        print(y)
    return y * 2


def _item_in_the_middle(x: Tensor) -> Tensor:
    y = x.sin()
    return y * y.sum().item() + 1


def _numpy(x: Tensor) -> Tensor:
    return torch.from_numpy(x.numpy() * 2) + x


def _formatted(x: Tensor) -> Tensor:
    y = x * 2
    return y + len(f"{y.sum():.1f}")


_FULL: dict[str, Callable[[Tensor], Tensor]] = {
    function.__name__.strip("_"): function for function in (_to, _cpu, _nonzero, _item, _converted, _one_hot, _mask)
}
_BREAKING: dict[str, Callable[[Tensor], Tensor]] = {
    function.__name__.strip("_"): function
    for function in (_to, _cpu, _nonzero, _mask, _listed, _branch, _print, _item_in_the_middle, _numpy, _formatted)
}
_SETTINGS = {
    "capture_scalar_outputs": True,
    "capture_dynamic_output_shape_ops": True,
}


@pytest.fixture(autouse=True)
def _fresh_dynamo() -> Iterator[None]:
    yield
    torch._dynamo.reset()


def _work_of(
    function: Callable[[Tensor], Tensor], attach_at: int | None, detach_at: int | None = None, **settings: Any
) -> _Work:
    """Compile and call from nothing; the agent is there from before the call `attach_at` until `detach_at`."""
    torch._dynamo.reset()
    torch._dynamo.utils.clear_compilation_metrics()
    counters.clear()
    results = []
    with contextlib.ExitStack() as stack:
        compiled: Any = None
        for index in range(_NUM_CALLS):
            if index == attach_at:
                stack.enter_context(watch(network(), sync_device="cpu"))
            if index == detach_at:
                stack.close()
            compiled = compiled or torch.compile(function, **settings)
            result = compiled(torch.arange(3.0 + index % 3))
            results.append(bytes(result.detach().contiguous().view(-1).view(torch.uint8).numpy()))
    metrics = get_compilation_metrics()
    return _Work(
        counters["stats"]["unique_graphs"],
        Counter(counters["graph_break"]),
        tuple((metric.co_name, getattr(metric, "recompile_reason", None)) for metric in metrics),
        dict(counters["frames"]),
        tuple(results),
    )


@functools.cache
def _bare(function: Callable[[Tensor], Tensor], **settings: Any) -> _Work:
    """Return the work without an agent, which is the same for all who compare with it."""
    return _work_of(function, None, **settings)


@pytest.mark.parametrize("backend", _BACKENDS)
@pytest.mark.parametrize(("attach_at", "detach_at"), [(0, None), (2, None), (0, 2), (1, 3)])
@pytest.mark.parametrize("name", [name for name in _FULL if name != "one_hot"])
def test_full_graphs_stay_whole(name: str, attach_at: int, detach_at: int | None, backend: str) -> None:
    """`fullgraph=True` with what we replace inside: the same graphs, frames and bits, patched before or after."""
    with torch._dynamo.config.patch(_SETTINGS):
        bare = _bare(_FULL[name], backend=backend, fullgraph=True)

        watched = _work_of(_FULL[name], attach_at, detach_at, backend=backend, fullgraph=True)

    assert watched == bare
    assert bare.num_graphs >= 1


@pytest.mark.parametrize(("attach_at", "detach_at"), [(0, None), (2, None), (0, 2)])
def test_one_hot_is_guarded_on_under_the_simulation(attach_at: int, detach_at: int | None) -> None:
    """Dynamo guards on functions of modules: one variant more where the simulation comes or goes midway, else none."""
    bare = _work_of(_FULL["one_hot"], None, backend="aot_eager", fullgraph=True)

    watched = _work_of(_FULL["one_hot"], attach_at, detach_at, backend="aot_eager", fullgraph=True)

    num_changes = (attach_at > 0) + (detach_at is not None)
    assert len(bare.frames) <= len(watched.frames) <= len(bare.frames) + num_changes
    assert (watched.results, watched.breaks) == (bare.results, bare.breaks)


@pytest.mark.parametrize("backend", _BACKENDS)
@pytest.mark.parametrize(("attach_at", "detach_at"), [(0, None), (2, None), (0, 2)])
@pytest.mark.parametrize("name", _BREAKING)
def test_graph_breaks_stay_the_same(name: str, attach_at: int, detach_at: int | None, backend: str) -> None:
    """Where the function breaks by itself, it breaks at the same places, for the same reasons, as often."""
    bare = _bare(_BREAKING[name], backend=backend)

    watched = _work_of(_BREAKING[name], attach_at, detach_at, backend=backend)

    assert watched == bare


def test_reads_between_graphs_are_counted_at_their_lines() -> None:
    """What a break lets run in Python is the user's sync, and dynamo's own reading of tensors is not."""
    with watch(network(), sync_device="cpu") as watched:
        compiled = torch.compile(_item_in_the_middle, backend="eager")
        for _ in range(3):
            compiled(torch.ones(3))
        assert watched.agent.flush(10)
        counts = watched.memory.latest_activity.counters["loopscope.device.syncs"]

    line = _item_in_the_middle.__code__.co_firstlineno + 2
    assert counts == {(f"tests/agent/{__name__.rpartition('.')[2]}.py:{line}", "item"): 3}
