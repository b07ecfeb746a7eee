"""Laws of the audit of hooks, on real loops: what piles up, holds graphs or never runs is told, and nothing else."""

from __future__ import annotations

import collections
import functools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.loops import watch
from torch import Tensor, nn
from torch._dynamo.utils import counters
from torch.nn import functional
from torch.nn.utils import prune
from torch.optim import SGD

kept: list[Tensor] = []


class Net(nn.Module):
    """Three linear layers, of which the second is followed by a function; `unused` is not called."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.relu, self.second = nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8)
        self.unused, self.last = nn.ReLU(), nn.Linear(8, 1)

    def forward(self, inputs: Tensor) -> Tensor:
        """Run all but `unused`."""
        return self.last(functional.relu(self.second(self.relu(self.first(inputs)))))


def hook(*_: Any) -> None:
    """Do nothing."""


def keep(_: nn.Module, __: Any, output: Tensor) -> None:
    """Put the output into a global list."""
    kept.append(output)


class Recorder:
    """Keeps what it sees, in tuples."""

    def __init__(self) -> None:
        self.outputs: list[Any] = []

    def hook(self, _: nn.Module, __: Any, output: Tensor) -> None:
        """Keep the output."""
        self.outputs.append((output,))


def _nothing(*_: Any) -> None:
    return None


def _told(
    *,
    setup: Callable[[Any, Any], Any] = _nothing,
    each: Callable[[Any, Any, int], Any] = _nothing,
    call: Callable[[Any, Tensor], Tensor] = lambda model, inputs: model(inputs),
    wrap: Callable[[Any], Any] = lambda model: model,
    num_steps: int = 100,
) -> list[tuple[str, str, str | None]]:
    """Train, and return kind, severity and layer of what was told of hooks."""
    torch.manual_seed(0)
    model = Net()
    optimizer = SGD(model.parameters(), 0.01)
    with watch(model, optimizer, inplace_armed_steps=0) as watched:
        wrapped = wrap(model)
        setup(model, optimizer)
        for step in range(num_steps):
            each(model, optimizer, step)
            call(wrapped, torch.randn(5, 4)).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
        assert watched.agent.flush(10)
        assert not any(watched.agent.internal_errors.values())
        events = [event for event in watched.memory.events if event.kind.startswith("hook")]
    kept.clear()
    assert all(event.site and "test_hook_audit.py:" in event.site for event in events)
    return [(event.kind, event.severity, event.layer) for event in events]


@pytest.mark.parametrize(
    ("each", "layer"),
    [
        (lambda model, _, __: model.first.register_forward_hook(hook), "first"),
        (lambda model, _, __: model.first.register_forward_pre_hook(lambda *_: None), "first"),
        (lambda model, _, __: model.second.register_full_backward_hook(lambda *_: None), "second"),
        (lambda model, _, __: model.second.weight.register_hook(lambda _: None), "second.weight"),
        (lambda model, _, __: model.last.bias.register_post_accumulate_grad_hook(hook), "last.bias"),
        (lambda _, optimizer, __: optimizer.register_step_post_hook(hook), "optimizer"),
        (lambda model, _, step: step % 5 or model.first.register_forward_hook(hook), "first"),
    ],
)
def test_hooks_that_pile_up_are_told(each: Any, layer: str) -> None:
    """Wherever they are."""
    assert _told(each=each) == [("hook_leak", "warning", layer)]


def _closure(model: Net, _: Any) -> None:
    features = collections.defaultdict(list)
    model.first.register_forward_hook(lambda _, __, output: features["first"].append(output))


@pytest.mark.parametrize(
    "setup",
    [
        _closure,
        lambda model, _: model.first.register_forward_hook(keep),
        lambda model, _: model.first.register_forward_hook(Recorder().hook),
        lambda model, _: model.first.register_forward_hook(
            functools.partial(lambda to, _, __, out: to.append(out), [])
        ),
    ],
    ids=["closure", "global", "method", "partial"],
)
def test_hooks_that_keep_graphs_are_told(setup: Any) -> None:
    """Wherever they keep them."""
    assert _told(setup=setup) == [("hook_leak", "warning", "first")]


@pytest.mark.parametrize(
    ("setup", "call", "layer"),
    [
        (
            lambda model, _: model.register_forward_hook(hook),
            lambda model, inputs: model.forward(inputs),
            "(root)",
        ),
        (
            lambda model, _: model.second.register_forward_pre_hook(hook),
            lambda model, inputs: model.last(functional.linear(model.first(inputs), model.second.weight)),
            "second",
        ),
        (lambda model, _: model.unused.register_forward_hook(hook), lambda model, inputs: model(inputs), "unused"),
    ],
    ids=["forward", "weight", "unused"],
)
def test_hooks_that_never_run_are_told(setup: Any, call: Any, layer: str) -> None:
    """Of modules that train without being called, and of modules that are left out."""
    assert _told(setup=setup, call=call) == [("hook_never_fires", "warning", layer)]


def _compiled(model: nn.Module) -> Any:
    torch._dynamo.reset()
    return torch.compile(model, backend="eager")


def _at(step: int, register: Callable[[Any], Any]) -> Callable[[Any, Any, int], Any]:
    return lambda model, _, now: register(model) if now == step else None


@pytest.mark.parametrize(
    "register",
    [
        lambda model: model.second.register_forward_hook(hook),
        lambda model: model.second.register_full_backward_hook(hook),
        lambda model: [module.register_forward_hook(hook) for module in (model.second, model.last)],
    ],
)
def test_hook_that_came_after_the_compilation_is_told(register: Any) -> None:
    """As the compiled code runs without it; and to find that out compiles nothing."""
    counters.clear()
    told = _told(each=_at(30, register), wrap=_compiled)
    stats, frames = dict(counters["stats"]), dict(counters["frames"])
    torch._dynamo.reset()

    assert told == [("hook_never_fires", "warning", "second")]
    assert (stats["unique_graphs"], frames["total"]) == (1, 1)


def test_hook_in_compiled_code_is_left_alone() -> None:
    """It runs there, though nothing of ours does."""
    told = _told(setup=lambda model, _: model.second.register_forward_hook(hook), wrap=_compiled)
    torch._dynamo.reset()

    assert told == []


def _latest(model: Net, _: Any) -> None:
    outputs: dict[str, Tensor] = {}
    for name in ("first", "second"):
        getattr(model, name).register_forward_hook(lambda _, __, out, name=name: outputs.update({name: out}))


def _history(model: Net, _: Any) -> None:
    means: list[Tensor] = []
    model.first.register_forward_hook(lambda _, __, output: means.append(output.detach().mean()))


def _window(model: Net, _: Any) -> None:
    outputs = collections.deque(maxlen=16)
    model.first.register_forward_hook(lambda _, __, output: outputs.append(output))


def _library(model: Net, _: Any) -> None:
    torch.nn.utils.spectral_norm(model.first)
    prune.l1_unstructured(model.second, "weight", 0.3)


def _everywhere(model: Net, _: Any) -> None:
    for module in (model, model.first, model.relu, model.second, model.last):
        module.register_forward_hook(hook)
    model.second.register_full_backward_hook(hook)


@pytest.mark.parametrize("setup", [_latest, _history, _window, _library, _everywhere])
def test_usual_hooks_are_silent(setup: Any) -> None:
    """Registered once, and keeping little."""
    assert _told(setup=setup) == []


def _anew(model: Any, _: Any, __: int) -> None:
    if hasattr(model, "handle"):
        model.handle.remove()
    model.handle = model.first.register_forward_hook(hook)


def _around_evaluation(model: Any, _: Any, step: int) -> None:
    with model.first.register_forward_hook(keep), torch.no_grad():
        model(torch.randn(2, 4))


def _emptied(model: Any, _: Any, step: int) -> None:
    if step == 0:
        model.first.register_forward_hook(keep)
    kept.clear()


@pytest.mark.parametrize("each", [_anew, _around_evaluation, _emptied])
def test_hooks_that_come_and_go_are_silent(each: Any) -> None:
    """At each step anew, for an evaluation, and with a list that is emptied."""
    assert _told(each=each) == []


def test_detach_leaves_the_hooks_of_others() -> None:
    """And none of ours, also in the middle of a look."""
    model = Net()
    optimizer = SGD(model.parameters(), 0.01)
    with watch(model, optimizer):
        model.unused.register_forward_hook(hook)
        for _ in range(40):
            model(torch.randn(5, 4)).mean().backward()
            optimizer.step()
            if sum(len(module._forward_hooks) for module in model.modules()) > 1:
                break
        else:
            pytest.fail("no look has begun")

    assert [list(module._forward_hooks.values()) for module in model.modules() if module._forward_hooks] == [[hook]]
