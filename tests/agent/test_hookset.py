"""Laws of a HookSet: observers of one function, each behind its own site, and what dynamo sees of them."""

from __future__ import annotations

import time
import types
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch._dynamo

from loopscope.guard import Guard
from loopscope.hooks import HookSet, out_of_dynamo


@pytest.fixture
def module() -> types.SimpleNamespace:
    """Something with a function that can be patched."""

    def double(value: int) -> int:
        if value < 0:
            raise ValueError("negative")
        return 2 * value

    return types.SimpleNamespace(double=double)


def _noting(notes: list[str], name: str) -> Callable[..., Any]:
    def observer(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Callable[[Any, bool], None]:
        notes.append(f"{name} sees {args[0]}")
        return lambda result, is_done: notes.append(f"{name} has {result if is_done else 'nothing'}")

    return observer


def _failing(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    raise RuntimeError("ours")


def test_observers_of_one_function_are_nested(module: types.SimpleNamespace) -> None:
    """The last one to begin is the first one to end; all are gone after `remove`, and the function is the user's."""
    hooks, guard, notes, original = HookSet(), Guard(strict=True), list[str](), module.double
    for name in ("first", "second"):
        hooks.patch(module, "double", _noting(notes, name), guard.at(name))

    assert module.double(3) == 6
    hooks.remove()
    assert module.double(4) == 8

    assert notes == ["first sees 3", "second sees 3", "second has 6", "first has 6"]
    assert module.double is original


def test_observers_hear_of_an_exception_that_passes(module: types.SimpleNamespace) -> None:
    """It is the user's own, and reaches them."""
    hooks, notes = HookSet(), list[str]()
    hooks.patch(module, "double", _noting(notes, "first"), Guard(strict=True).at("first"))

    with pytest.raises(ValueError, match="negative"):
        module.double(-1)
    hooks.remove()

    assert notes == ["first sees -1", "first has nothing"]


def test_fault_of_one_observer_leaves_the_others_alone(module: types.SimpleNamespace) -> None:
    """It is counted at its own site, which is switched off at the limit; the others go on."""
    hooks, guard, notes = HookSet(), Guard(limit=2), list[str]()
    hooks.patch(module, "double", _failing, guard.at("failing"))
    hooks.patch(module, "double", _noting(notes, "sound"), guard.at("sound"))
    hooks.patch(module, "double", lambda args, kwargs: _failing, guard.at("failing at the end"))

    results = [module.double(value) for value in range(3)]
    hooks.remove()

    assert results == [0, 2, 4]
    assert guard.faults() == {"failing": 2, "sound": 0, "failing at the end": 2}
    assert sum(note.startswith("sound has") for note in notes) == 3


def test_observers_of_an_agent_that_has_left_are_not_called(module: types.SimpleNamespace) -> None:
    """A HookSet that is used again has new observers only."""
    hooks, guard, notes = HookSet(), Guard(strict=True), list[str]()
    hooks.patch(module, "double", _noting(notes, "old"), guard.at("old"))
    hooks.remove()

    hooks.patch(module, "double", _noting(notes, "new"), guard.at("new"))
    module.double(1)
    hooks.remove()

    assert notes == ["new sees 1", "new has 2"]


def test_time_of_observers_is_added_up(module: types.SimpleNamespace) -> None:
    """That of the function itself is not ours: it is left out."""
    hooks, guard, original = HookSet(), Guard(strict=True), module.double

    def slow(value: int) -> int:
        time.sleep(0.2)
        return original(value)

    def finish(result: Any, is_done: bool) -> None:
        time.sleep(0.01)

    module.double = slow
    hooks.patch(module, "double", lambda args, kwargs: time.sleep(0.01), guard.at("at the beginning"))
    hooks.patch(module, "double", lambda args, kwargs: finish, guard.at("at the end"))
    module.double(1)
    hooks.remove()

    assert 0.02 <= hooks.spent_ns / 1e9 < 0.2


# what dynamo sees


def test_what_is_out_of_dynamo_is_not_compiled_with_its_caller() -> None:
    """Neither while dynamo traces the caller, which breaks there, nor in what is called where dynamo is at work."""
    calls: list[bool] = []

    def inner(x: torch.Tensor) -> torch.Tensor:
        calls.append(torch.compiler.is_compiling())
        return x + 1

    apart = out_of_dynamo(inner)
    compiled_frames: list[str] = []

    def backend(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> Callable[..., Any]:
        compiled_frames.extend(str(node.target) for node in graph.graph.nodes if node.op == "call_function")
        return graph.forward

    torch._dynamo.reset()
    compiled = torch.compile(lambda x: apart(x * 2) * 3, backend=backend)
    results = [compiled(torch.ones(2)) for _ in range(3)]
    torch._dynamo.reset()

    assert all(result.tolist() == [9.0, 9.0] for result in results)
    assert calls == [False] * 3
    assert not any("add" in target for target in compiled_frames)


def test_without_dynamo_nothing_is_switched() -> None:
    """In eager code the function is called as it is: dynamo's callback is none before and within."""
    active = torch._C._dynamo.eval_frame.get_eval_frame_callback
    seen: list[Any] = []

    out_of_dynamo(lambda: seen.append(active()))()

    assert seen == [None]
    assert active() is None
