"""Laws of the in-place probe: what arming does to the loop, to the mode stack and to memory, and when it ends."""

from __future__ import annotations

import gc
import threading
import traceback
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from tests.loops import NUM_IN, Watched, batch, network, watch, weights
from torch import Tensor, nn
from torch.utils import _python_dispatch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

import loopscope
from loopscope.errors import SettingError
from loopscope.probes.inplace.history import Made, Store, Write


class _Broken(nn.Module):
    """Backward raises: exp has saved what is added to."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(NUM_IN, 8)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = torch.exp(self.layer(inputs))
        hidden += 1
        return hidden


class _Mode(TorchDispatchMode):
    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return function(*args, **(kwargs or {}))


def _stack() -> list[Any]:
    return list(_python_dispatch._get_current_dispatch_mode_stack())


def _step(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    model(batch()).square().mean().backward()
    optimizer.step()


def _pair(model: nn.Module | None = None) -> tuple[nn.Module, torch.optim.Optimizer]:
    model = network() if model is None else model
    return model, torch.optim.SGD(model.parameters(), lr=0.01)


def _fail(model: nn.Module) -> RuntimeError:
    with pytest.raises(RuntimeError, match="modified by an inplace operation") as caught:
        model(batch()).sum().backward()
    return caught.value


def _events(watched: Watched) -> list[loopscope.Event]:
    assert watched.agent.flush(10)
    return [event for event in watched.memory.events if event.kind.startswith("inplace_")]


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    yield
    assert _stack() == []


def test_the_first_two_steps_are_armed_and_no_more() -> None:
    """By default."""
    pair = _pair()
    with watch(*pair):
        lengths = [len(_stack())]
        for _ in range(4):
            _step(*pair)
            lengths.append(len(_stack()))

    assert lengths == [1, 1, 0, 0, 0]


def test_zero_steps_are_never_armed() -> None:
    """Nor does a failure arm then, but the note says how."""
    pair = _pair(_Broken())
    with watch(*pair, inplace_armed_steps=0):
        (note,) = _fail(pair[0]).__notes__

        assert _stack() == []
    assert "LOOPSCOPE_INPLACE_ARMED_STEPS" in note
    assert 'agent.arm("inplace")' in note


def test_a_failure_arms_again() -> None:
    """The first one is not explained, as its forward was not watched; the second one is."""
    pair = _pair(_Broken())
    with watch(*pair, inplace_armed_steps=1) as watched:
        pair[0].layer(batch()).sum().backward()
        pair[1].step()
        first, second = _fail(pair[0]), _fail(pair[0])
        events = _events(watched)

    assert "hidden += 1" not in first.__notes__[0]
    assert "`hidden += 1` (aten::add_) modified a tensor that" in second.__notes__[0]
    assert "(aten::exp) had saved for backward; write `hidden = hidden + 1`." in second.__notes__[0]
    assert [event.kind for event in events] == ["inplace_conflict"]


def test_arm_watches_on_demand() -> None:
    """And takes nothing else."""
    pair = _pair()
    with watch(*pair, inplace_armed_steps=0) as watched:
        watched.agent.arm("inplace", steps=1)
        armed = len(_stack())
        _step(*pair)

        assert (armed, len(_stack())) == (1, 0)
        with pytest.raises(SettingError, match="inplace"):
            watched.agent.arm("syncs")
        with pytest.raises(SettingError, match="steps"):
            watched.agent.arm("inplace", steps=0)


def test_an_explained_error_has_one_frame_of_ours() -> None:
    """The wrapper of torch.autograd.backward."""
    pair = _pair(_Broken())
    with watch(*pair):
        error = _fail(pair[0])

    files = [frame.filename for frame in traceback.extract_tb(error.__traceback__)]
    assert sum("/loopscope/" in file for file in files) == 1


def test_an_error_about_something_else_has_no_note() -> None:
    """Only what PyTorch says of in-place operations is explained."""
    pair = _pair()
    with watch(*pair):
        loss = pair[0](batch()).sum()
        loss.backward()
        with pytest.raises(RuntimeError, match="second time") as caught:
            loss.backward()

    assert not hasattr(caught.value, "__notes__")


def test_a_mode_of_the_users_on_top_of_ours_stays() -> None:
    """We pass through, and leave at the end of a later step."""
    pair = _pair()
    with watch(*pair, inplace_armed_steps=1):
        with _Mode() as mode:
            _step(*pair)
            assert _stack()[-1] is mode
        _step(*pair)

        assert _stack() == []


def test_no_mode_is_joined_within_the_users() -> None:
    """His `with` would pop ours in place of his own: we come after it, and the step before does not count."""
    pair = _pair()
    with _Mode() as mode:
        inner = watch(*pair, inplace_armed_steps=1)
        inner.__enter__()
        assert _stack() == [mode]
        _step(*pair)
        assert _stack() == [mode]
    _step(*pair)
    armed = len(_stack())
    _step(*pair)

    assert (armed, len(_stack())) == (1, 0)
    inner.__exit__(None, None, None)


def test_another_thread_is_armed_at_its_first_step() -> None:
    """Modes are the thread's own."""
    pair, lengths = _pair(), []

    def train() -> None:
        for _ in range(4):
            _step(*pair)
            lengths.append(len(_stack()))

    with watch(*pair):
        thread = threading.Thread(target=train)
        thread.start()
        thread.join()

    assert lengths == [1, 1, 0, 0]


def test_agents_share_one_watch() -> None:
    """The operators are looked at once."""
    pairs = [_pair(), _pair()]
    with watch(*pairs[0]) as one, watch(*pairs[1]) as other:
        assert len(_stack()) == 1
        for _ in range(3):
            _step(*pairs[0])
            _step(*pairs[1])

        assert _stack() == []
        assert one.agent.internal_errors == other.agent.internal_errors == {}


def test_no_tensor_outlives_its_step() -> None:
    """Activations go when they go without us, and nothing is remembered after the armed steps."""
    pair, alive = _pair(), []
    pair[0].register_forward_hook(lambda module, args, output: alive.append(weakref.ref(output)))
    with watch(*pair):
        for _ in range(3):
            _step(*pair)
            gc.collect()

        assert [reference() for reference in alive] == [None] * 3
        assert not [each for each in gc.get_objects() if type(each) in {Made, Store, Write}]


@pytest.mark.parametrize("is_reentrant", [False, True])
def test_training_is_bit_identical(is_reentrant: bool) -> None:
    """Convolutions, BatchNorm, dropout, in-place activations, attention, autocast and checkpoints."""

    def train(armed_steps: int) -> Tensor:
        torch.manual_seed(0)
        convolutions = nn.Sequential(
            nn.Conv2d(1, 4, 3),
            nn.BatchNorm2d(4),
            nn.ReLU(inplace=True),
            nn.Dropout(0.2),
            nn.Flatten(),
            nn.Unflatten(1, (9, 16)),
        )
        attention = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
        model = nn.ModuleList([convolutions, attention])
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
        with watch(model, optimizer, inplace_armed_steps=armed_steps) as watched:
            for _ in range(3):
                optimizer.zero_grad()
                with torch.autocast("cpu", dtype=torch.bfloat16):
                    hidden = checkpoint(
                        convolutions, torch.randn(2, 1, 8, 8, requires_grad=True), use_reentrant=is_reentrant
                    )
                    loss = attention(hidden).float().square().mean()
                loss.backward()
                optimizer.step()
            assert watched.agent.internal_errors == {}
        return weights(model)

    assert torch.equal(train(0), train(100))


def test_lbfgs_is_bit_identical() -> None:
    """Its closure runs several backward passes in a step."""

    def train(armed_steps: int) -> Tensor:
        model, inputs = network(), batch()
        optimizer = torch.optim.LBFGS(model.parameters(), max_iter=4)

        def closure() -> Tensor:
            optimizer.zero_grad()
            loss = model(inputs).square().mean()
            loss.backward()
            return loss

        with watch(model, optimizer, inplace_armed_steps=armed_steps):
            for _ in range(3):
                optimizer.step(closure)
        return weights(model)

    assert torch.equal(train(0), train(100))


@pytest.mark.parametrize("settings", [{"foreach": True}, {"fused": True}, {"foreach": False}], ids=str)
@pytest.mark.parametrize("optimizer_type", [torch.optim.Adam, torch.optim.SGD])
def test_versions_are_counted_as_without_us(optimizer_type: Any, settings: dict[str, bool]) -> None:
    """A dispatch mode hides what foreach operators write from PyTorch's check: ours makes up for it."""

    def versions(armed_steps: int) -> list[int]:
        model = network()
        optimizer = optimizer_type(model.parameters(), lr=0.01, **settings)
        with watch(model, optimizer, inplace_armed_steps=armed_steps):
            _step(model, optimizer)
            torch.nn.utils.clip_grad_norm_(model.parameters(), 0.1)
            optimizer.step()
        return [each._version for parameter in model.parameters() for each in (parameter, parameter.grad)]

    assert versions(0) == versions(100)


def test_a_fused_step_between_two_backwards_is_a_corruption() -> None:
    """PyTorch counts no version for it, and raises nothing (torch 2.13)."""
    model = network()
    optimizer = torch.optim.Adam(model.parameters(), fused=True)
    with watch(model, optimizer) as watched:
        loss = model(batch()).square().mean()
        loss.backward(retain_graph=True)
        optimizer.step()
        loss.backward()
        events = _events(watched)

    assert {(event.kind, event.severity) for event in events} == {("inplace_corruption", "critical")}
    assert all("detach" in event.remedy for event in events)


@pytest.mark.parametrize("armed_steps", [0, 2])
def test_compiled_graphs_are_those_of_the_bare_model(armed_steps: int) -> None:
    """Two compilations for two batch sizes, no break, armed or not."""
    torch._dynamo.reset()
    graphs: list[int] = []

    def backend(module: Any, inputs: Any) -> Any:
        graphs.append(len(module.graph.nodes))
        return module.forward

    model = nn.Sequential(nn.Linear(NUM_IN, 8), nn.ReLU(inplace=True), nn.Linear(8, 1))
    compiled = torch.compile(model, backend=backend, dynamic=False)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    with watch(model, optimizer, inplace_armed_steps=armed_steps):
        for size in (6, 6, 6, 4):
            optimizer.zero_grad()
            compiled(batch(0, size)).square().mean().backward()
            optimizer.step()
    torch._dynamo.reset()

    assert len(graphs) == 2


def test_a_hook_that_modifies_a_gradient_of_its_own_is_told_quietly() -> None:
    """Nobody else uses it: an event at info."""
    pair = _pair()
    for parameter in pair[0].parameters():
        parameter.register_hook(lambda gradient: gradient.clamp_(-1, 1))
    with watch(*pair) as watched:
        _step(*pair)
        events = _events(watched)

    assert {(event.kind, event.severity) for event in events} == {("inplace_conflict", "info")}


def test_chunks_of_one_storage_do_not_meet() -> None:
    """The gates of a GRU cell are activated in place, each in its own part of one tensor."""
    model = nn.GRU(NUM_IN, 8)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    with watch(model, optimizer) as watched:
        optimizer.zero_grad()
        model(batch()[None])[0].square().mean().backward()
        optimizer.step()

        assert _events(watched) == []


def test_a_conflict_without_a_backward_is_told_in_advance() -> None:
    """At the next step, or when somebody asks."""
    with watch(*_pair(_Broken())) as watched:
        model = nn.Sequential(nn.Linear(NUM_IN, 4), nn.Sigmoid(), nn.ReLU(inplace=True), nn.Linear(4, 1))
        model(batch())
        events = _events(watched)

    assert [(event.kind, event.severity) for event in events] == [("inplace_conflict", "warning")]
    assert events[0].attributes["library"].startswith("torch/nn/modules/activation.py")
    assert events[0].remedy == "Build the module with inplace=False."
