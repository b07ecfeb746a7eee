"""Laws of the in-place probe: an armed step computes what a bare one does, and PyTorch checks what it does bare."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from tests.inplacing import Broken, inplace_events, mode_stack, model_and_optimizer, train_once
from tests.loops import NUM_IN, batch, network, watch, weights
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    yield
    assert mode_stack() == []


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
            train_once(model, optimizer)
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
        events = inplace_events(watched)

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
    pair = model_and_optimizer()
    for parameter in pair[0].parameters():
        parameter.register_hook(lambda gradient: gradient.clamp_(-1, 1))
    with watch(*pair) as watched:
        train_once(*pair)
        events = inplace_events(watched)

    assert {(event.kind, event.severity) for event in events} == {("inplace_conflict", "info")}


def test_chunks_of_one_storage_do_not_meet() -> None:
    """The gates of a GRU cell are activated in place, each in its own part of one tensor."""
    model = nn.GRU(NUM_IN, 8)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    with watch(model, optimizer) as watched:
        optimizer.zero_grad()
        model(batch()[None])[0].square().mean().backward()
        optimizer.step()

        assert inplace_events(watched) == []


def test_a_conflict_without_a_backward_is_told_in_advance() -> None:
    """At the next step, or when somebody asks."""
    with watch(*model_and_optimizer(Broken())) as watched:
        model = nn.Sequential(nn.Linear(NUM_IN, 4), nn.Sigmoid(), nn.ReLU(inplace=True), nn.Linear(4, 1))
        model(batch())
        events = inplace_events(watched)

    assert [(event.kind, event.severity) for event in events] == [("inplace_conflict", "warning")]
    assert events[0].attributes["library"].startswith("torch/nn/modules/activation.py")
    assert events[0].remedy == "Build the module with inplace=False."
