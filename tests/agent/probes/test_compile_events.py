"""Laws of compile events of a watched loop: they come with their step, and their counters with them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from tests.loops import watch
from torch import nn

pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")


class _Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x: Any) -> Any:
        x = self.linear(x)
        if x.sum() > 1e9:
            x = x * 0
        return x


_HERE = "tests/agent/probes/test_compile_events.py"
_FORWARD = _Net.forward.__code__.co_firstlineno


@pytest.fixture(autouse=True)
def _fresh_dynamo() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def _train(watched: Any, model: nn.Module, optimizer: Any, sizes: tuple[int, ...]) -> None:
    compiled = torch.compile(model, backend="aot_eager")
    for size in sizes:
        optimizer.zero_grad()
        compiled(torch.ones(size, 4)).square().sum().backward()
        optimizer.step()
    assert watched.agent.flush(10)


def test_events_come_with_the_step_and_the_line() -> None:
    """A break in the first step, a batch of another size in the third."""
    model = _Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    with watch(model, optimizer) as watched:
        _train(watched, model, optimizer, (8, 8, 6, 6))
        told = [(event.step, event.severity, event.kind, event.site) for event in watched.agent.events]

    assert (0, "info", "compilation", f"{_HERE}:{_FORWARD}") in told
    assert (0, "warning", "graph_break", f"{_HERE}:{_FORWARD + 2}") in told
    assert (2, "warning", "recompilation", f"{_HERE}:{_FORWARD}") in told
    assert not [event for event in told if event[0] in {1, 3}]


def test_counters_reach_the_exporters() -> None:
    """The labels are the frame and the line, the reason is of the closed list."""
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    with watch(model, optimizer) as watched:
        _train(watched, model, optimizer, (8, 6))
        watched.agent.detach()
        counters = watched.memory.latest_activity.counters

    line = _train.__code__.co_firstlineno + 4
    assert counters["loopscope.compilations"] == {(): 2}
    assert counters["loopscope.backward_compilations"] == {(): 1}  # a dynamic one is compiled with its forward
    assert counters["loopscope.recompilations"] == {(f"module (test_compile_events.py:{line})", "shape"): 1}
