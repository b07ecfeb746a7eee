"""Laws of the in-place probe: what arming does to the loop, to the mode stack and to memory, and when it ends."""

from __future__ import annotations

import gc
import threading
import traceback
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
from tests.inplacing import Broken, failure, inplace_events, mode_stack, model_and_optimizer, train_once
from tests.loops import batch, watch
from torch.utils._python_dispatch import TorchDispatchMode

from loopscope.errors import SettingError
from loopscope.probes.inplace.history import Made, Store, Write


class _Mode(TorchDispatchMode):
    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return function(*args, **(kwargs or {}))


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    yield
    assert mode_stack() == []


def test_the_first_two_steps_are_armed_and_no_more() -> None:
    """By default."""
    pair = model_and_optimizer()
    with watch(*pair):
        lengths = [len(mode_stack())]
        for _ in range(4):
            train_once(*pair)
            lengths.append(len(mode_stack()))

    assert lengths == [1, 1, 0, 0, 0]


def test_zero_steps_are_never_armed() -> None:
    """Nor does a failure arm then, but the note says how."""
    pair = model_and_optimizer(Broken())
    with watch(*pair, inplace_armed_steps=0):
        (note,) = failure(pair[0]).__notes__

        assert mode_stack() == []
    assert "LOOPSCOPE_INPLACE_ARMED_STEPS" in note
    assert 'agent.arm("inplace")' in note


def test_a_failure_arms_again() -> None:
    """The first one is not explained, as its forward was not watched; the second one is."""
    pair = model_and_optimizer(Broken())
    with watch(*pair, inplace_armed_steps=1) as watched:
        pair[0].layer(batch()).sum().backward()
        pair[1].step()
        first, second = failure(pair[0]), failure(pair[0])
        events = inplace_events(watched)

    assert "hidden += 1" not in first.__notes__[0]
    assert "`hidden += 1` (aten::add_) modified a tensor that" in second.__notes__[0]
    assert "(aten::exp) had saved for backward; write `hidden = hidden + 1`." in second.__notes__[0]
    assert [event.kind for event in events] == ["inplace_conflict"]


def test_arm_watches_on_demand() -> None:
    """And takes nothing else."""
    pair = model_and_optimizer()
    with watch(*pair, inplace_armed_steps=0) as watched:
        watched.agent.arm("inplace", steps=1)
        armed = len(mode_stack())
        train_once(*pair)

        assert (armed, len(mode_stack())) == (1, 0)
        with pytest.raises(SettingError, match="inplace"):
            watched.agent.arm("syncs")
        with pytest.raises(SettingError, match="steps"):
            watched.agent.arm("inplace", steps=0)


def test_an_explained_error_has_one_frame_of_ours() -> None:
    """The wrapper of torch.autograd.backward."""
    pair = model_and_optimizer(Broken())
    with watch(*pair):
        error = failure(pair[0])

    files = [frame.filename for frame in traceback.extract_tb(error.__traceback__)]
    assert sum("/loopscope/" in file for file in files) == 1


def test_an_error_about_something_else_has_no_note() -> None:
    """Only what PyTorch says of in-place operations is explained."""
    pair = model_and_optimizer()
    with watch(*pair):
        loss = pair[0](batch()).sum()
        loss.backward()
        with pytest.raises(RuntimeError, match="second time") as caught:
            loss.backward()

    assert not hasattr(caught.value, "__notes__")


def test_a_mode_of_the_users_on_top_of_ours_stays() -> None:
    """We pass through, and leave at the end of a later step."""
    pair = model_and_optimizer()
    with watch(*pair, inplace_armed_steps=1):
        with _Mode() as mode:
            train_once(*pair)
            assert mode_stack()[-1] is mode
        train_once(*pair)

        assert mode_stack() == []


def test_no_mode_is_joined_within_the_users() -> None:
    """His `with` would pop ours in place of his own: we come after it, and the step before does not count."""
    pair = model_and_optimizer()
    with _Mode() as mode:
        inner = watch(*pair, inplace_armed_steps=1)
        inner.__enter__()
        assert mode_stack() == [mode]
        train_once(*pair)
        assert mode_stack() == [mode]
    train_once(*pair)
    armed = len(mode_stack())
    train_once(*pair)

    assert (armed, len(mode_stack())) == (1, 0)
    inner.__exit__(None, None, None)


def test_another_thread_is_armed_at_its_first_step() -> None:
    """Modes are the thread's own."""
    pair, lengths = model_and_optimizer(), []

    def train() -> None:
        for _ in range(4):
            train_once(*pair)
            lengths.append(len(mode_stack()))

    with watch(*pair):
        thread = threading.Thread(target=train)
        thread.start()
        thread.join()

    assert lengths == [1, 1, 0, 0]


def test_agents_share_one_watch() -> None:
    """The operators are looked at once."""
    pairs = [model_and_optimizer(), model_and_optimizer()]
    with watch(*pairs[0]) as one, watch(*pairs[1]) as other:
        assert len(mode_stack()) == 1
        for _ in range(3):
            train_once(*pairs[0])
            train_once(*pairs[1])

        assert mode_stack() == []
        assert one.agent.internal_errors == other.agent.internal_errors == {}


def test_no_tensor_outlives_its_step() -> None:
    """Activations go when they go without us, and nothing is remembered after the armed steps."""
    pair, alive = model_and_optimizer(), []
    pair[0].register_forward_hook(lambda module, args, output: alive.append(weakref.ref(output)))
    with watch(*pair):
        for _ in range(3):
            train_once(*pair)
            gc.collect()

        assert [reference() for reference in alive] == [None] * 3
        assert not [each for each in gc.get_objects() if type(each) in {Made, Store, Write}]
