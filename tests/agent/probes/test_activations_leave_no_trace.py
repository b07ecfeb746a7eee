"""Laws of sampled activations: training, copies of the model and compiled code are those without them."""

from __future__ import annotations

import contextlib
import copy
import gc
import io
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.loops import batch, watch, weights
from torch import nn
from torch._dynamo.utils import counters
from torch.optim import SGD

import loopscope


def _model() -> nn.Sequential:
    torch.manual_seed(0)
    tail = nn.Sequential(nn.Linear(8, 8), nn.Tanh())
    return nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.3), nn.ReLU(), tail, nn.Linear(8, 1))


def _train(model: Any, optimizer: Any, num_steps: int = 24) -> None:
    torch.manual_seed(1)
    for step in range(num_steps):
        model(batch(step, 6 + (step > 12))).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()


@contextlib.contextmanager
def _maybe(model: nn.Module, optimizer: Any, is_watched: bool) -> Any:
    if not is_watched:
        yield None
        return
    with watch(model, optimizer, activations=True, overhead_budget=1.0, inplace_armed_steps=0) as watched:
        yield watched


def test_training_is_the_same_bit_for_bit() -> None:
    """With dropout, whose random numbers would tell."""
    results = []
    for is_watched in (False, True):
        model = _model()
        optimizer = SGD(model.parameters(), 0.1, momentum=0.9)
        with _maybe(model, optimizer, is_watched) as watched:
            _train(model, optimizer)
            assert not is_watched or sum(report.activations is not None for report in watched.reports) >= 2
        results.append(weights(model))

    assert torch.equal(*results)


def _wrapped(model: nn.Module) -> Any:
    return torch.compile(model, backend="eager")


def _in_place(model: nn.Module) -> Any:
    model.compile(backend="eager")
    return model


def _function(model: nn.Module) -> Any:
    return torch.compile(lambda inputs: 1.0 * model(inputs), backend="eager")


def _whole(model: nn.Module) -> Any:
    return torch.compile(model, backend="eager", fullgraph=True)


def _tail(model: Any) -> Any:
    model[3].forward = torch.compile(model[3].forward, backend="eager")
    return model


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # dynamo's own, of inputs
@pytest.mark.parametrize("make", [_wrapped, _in_place, _function, _whole, _tail])
@pytest.mark.parametrize("is_early", [False, True])
def test_compiled_code_is_the_same(make: Callable[[nn.Module], Any], is_early: bool) -> None:
    """No graph, frame or break more, whether it was compiled before attach or while the hooks are there."""
    seen = []
    for is_watched in (False, True):
        torch._dynamo.reset()
        counters.clear()
        model = _model()
        compiled = make(model) if is_early else None
        optimizer = SGD(model.parameters(), 0.1)
        with _maybe(model, optimizer, is_watched):
            _train(compiled or make(model), optimizer)
            seen.append({name: dict(counters[name]) for name in ("frames", "stats", "graph_break")})
    torch._dynamo.reset()

    assert seen[0] == seen[1]


def test_modules_beside_compiled_ones_are_seen() -> None:
    """From the first sampled step on that nothing is compiled on."""
    torch._dynamo.reset()
    model = _model()
    model[3].compile(backend="eager")
    optimizer = SGD(model.parameters(), 0.1)
    with watch(model, optimizer, activations=True, overhead_budget=1.0) as watched:
        for step in range(24):
            model(batch(step)).square().mean().backward()
            optimizer.step()
        tables = [report.activations for report in watched.reports if report.activations is not None]
    torch._dynamo.reset()

    assert tables
    assert {table.names for table in tables} == {("2",)}
    assert {table.num_unseen for table in tables} == {1}


def test_copies_have_no_hook_of_ours() -> None:
    """A copy and a saved model made during a sampled step work, without loopscope as well."""
    model = _model()
    optimizer = SGD(model.parameters(), 0.0)
    with watch(model, optimizer, activations=True):
        _train(model, optimizer, 1)
        assert len(model[2]._forward_hooks) == 1
        buffer = io.BytesIO()
        torch.save(model, buffer)
        buffer.seek(0)
        copies = [copy.deepcopy(model), torch.load(buffer, weights_only=False)]
    hooks = [hook for made in copies for module in made.modules() for hook in module._forward_hooks.values()]

    assert all(type(hook).__module__ == "builtins" and hook.__self__.__module__ == "contextlib" for hook in hooks)
    assert all(torch.equal(made.eval()(batch()), model.eval()(batch())) for made in copies)


def test_detach_takes_the_hooks_off_after_an_exception() -> None:
    """In the middle of a sampled forward."""

    class Failing(nn.Module):
        def forward(self, _: Any) -> Any:
            raise ValueError("no")

    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), Failing())
    optimizer = SGD(model.parameters(), 0.1)
    with watch(model, optimizer, activations=True):
        model[:2](batch()).mean().backward()
        optimizer.step()
        assert len(model[1]._forward_hooks) == 1
        with pytest.raises(ValueError, match="no"):
            model(batch())

    assert [len(module._forward_hooks) for module in model.modules()] == [0, 0, 0, 0]


def test_model_is_let_go() -> None:
    """What is counted keeps neither outputs nor modules alive."""
    model = _model()
    optimizer = SGD(model.parameters(), 0.1)
    agent = loopscope.attach(model, optimizer, activations=True, port=None, log_events=False)
    _train(model, optimizer, 1)
    output = model(batch())
    reference, module = weakref.ref(output), weakref.ref(model)
    output.mean().backward()
    optimizer.step()
    del output
    assert reference() is None
    del model, optimizer
    gc.collect()
    assert module() is None
    agent.detach()
