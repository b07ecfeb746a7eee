"""Laws of what the user says about syncs: which are meant, how many a step may have, and for which agent that holds."""

from __future__ import annotations

import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.loops import network, watch
from tests.syncing import SIMULATED, Loop, counts

import loopscope
from loopscope.errors import SettingError

_HERE = Path(__file__)


def _line_of(text: str) -> int:
    """The line of this file that has the text and is marked."""
    (number,) = [n for n, line in enumerate(_HERE.read_text().splitlines(), 1) if f"# {text}" in line]
    return number


def _read(loss: torch.Tensor) -> None:
    loss.item()  # the item
    float(loss)  # the float


def test_without_settings_nothing_is_allowed() -> None:
    """Each sync is in the report of its step, unallowed, and of the step only."""
    loop = Loop()
    with watch(loop.model, loop.optimizer, **SIMULATED) as watched:
        loop.step(_read)
        loop.step()
        first, second = watched.reports

    assert counts(first, is_allowed=False) == Counter(item=1, float=1)
    assert second.syncs == ()


@pytest.mark.parametrize("path", [_HERE.name, f"probes/{_HERE.name}", str(_HERE), f"tests/agent/probes/{_HERE.name}"])
def test_a_line_is_allowed(path: str) -> None:
    """As much of the path as is wanted, and the line: that one, no other."""
    loop = Loop()
    with watch(loop.model, loop.optimizer, **SIMULATED, allow_syncs=(f"{path}:{_line_of('the item')}",)) as watched:
        loop.step(_read)
        report = watched.only
        counters = watched.memory.latest_activity

    assert counts(report, is_allowed=True) == Counter(item=1)
    assert counts(report, is_allowed=False) == Counter(float=1)
    assert counters is not None
    assert counters.counters["loopscope.allowed_device_syncs"] == {("item",): 1}
    assert [event.attributes["sync"] for event in watched.memory.events] == ["float"]


@pytest.mark.parametrize("path", [_HERE.name, str(_HERE), f"agent/probes/{_HERE.name}"])
def test_a_file_is_allowed(path: str) -> None:
    """Without a line it is every line of the file, and there is no event."""
    loop = Loop()
    with watch(loop.model, loop.optimizer, **SIMULATED, allow_syncs=path) as watched:
        loop.step(_read)
        report = watched.only

    assert counts(report, is_allowed=True) == Counter(item=1, float=1)
    assert watched.memory.events == ()


@pytest.mark.parametrize("place", ["settings.py", "est_sync_settings.py", "other/test_sync_settings.py", "probes",
                                   f"{_HERE.name}:1"])  # fmt: skip
def test_other_places_are_not_allowed(place: str) -> None:
    """A part of a name, another folder and another line are other places."""
    loop = Loop()
    with watch(loop.model, loop.optimizer, **SIMULATED, allow_syncs=(place,)) as watched:
        loop.step(_read)

        assert counts(watched.only, is_allowed=True) == Counter()


def test_a_cell_is_allowed_by_its_name() -> None:
    """Code without a file has a name in angle brackets."""
    loop, names = Loop(), {}
    exec(compile("def read(loss):\n    loss.item()\n", "<cell 3>", "exec"), names)
    with watch(loop.model, loop.optimizer, **SIMULATED, allow_syncs=("<cell 3>:2",)) as watched:
        loop.step(names["read"])
        (sync,) = watched.only.syncs

    assert (sync.site, sync.is_allowed) == ("<cell 3>:2", True)


def test_a_block_is_allowed_and_only_the_block() -> None:
    """`with allow_sync(why)`, nested too, holds until the outermost ends."""

    def during(loss: torch.Tensor) -> None:
        with loopscope.allow_sync("log once a step"):
            with loopscope.allow_sync("inner"):
                loss.item()
            float(loss)
        bool(loss)

    loop = Loop()
    with watch(loop.model, loop.optimizer, **SIMULATED) as watched:
        loop.step(during)
        report = watched.only

    assert counts(report, is_allowed=True) == Counter(item=1, float=1)
    assert counts(report, is_allowed=False) == Counter(bool=1)


def test_a_decorated_function_is_allowed() -> None:
    """As a decorator it holds for each call, also a recursive one, and operators inside count as allowed too."""

    @loopscope.allow_sync("evaluation reads")
    def evaluate(x: torch.Tensor, depth: int = 1) -> None:
        x.sum().item()
        x[x > 0]
        if depth:
            evaluate(x, depth - 1)

    loop = Loop()
    with watch(loop.model, loop.optimizer, **SIMULATED) as watched:
        loop.step(lambda _: evaluate(torch.ones(3)))
        report = watched.only

    assert counts(report, is_allowed=True) == Counter(item=2, mask=2)
    assert counts(report, is_allowed=False) == Counter()


def test_an_exception_ends_the_block() -> None:
    """It passes, and what comes after it is not allowed."""

    def during(loss: torch.Tensor) -> None:
        with pytest.raises(KeyError), loopscope.allow_sync("fails"):
            raise KeyError(loss.item())
        loss.item()

    loop = Loop()
    with watch(loop.model, loop.optimizer, **SIMULATED) as watched:
        loop.step(during)
        report = watched.only

    assert counts(report, is_allowed=True) == counts(report, is_allowed=False) == Counter(item=1)


def test_a_block_is_of_its_thread() -> None:
    """What another thread does meanwhile is not allowed."""

    def during(loss: torch.Tensor) -> None:
        thread = threading.Thread(target=loss.item)
        thread.run = lambda: _read(loss)  # type: ignore[method-assign]  # in Python, at lines of its own
        with loopscope.allow_sync("only here"):
            thread.start()
            thread.join()

    loop = Loop()
    with watch(loop.model, loop.optimizer, **SIMULATED) as watched:
        loop.step(during)

        assert counts(watched.only, is_allowed=False) == Counter(item=1, float=1)


@pytest.mark.parametrize("reason", ["", "  ", "\n"])
def test_a_block_needs_a_reason(reason: str) -> None:
    """The text is for those who read the code; without one it is an error."""
    with pytest.raises(ValueError, match="reason is"):
        loopscope.allow_sync(reason)


def test_blocks_work_without_an_agent() -> None:
    """A script that is run without loopscope attached keeps its blocks."""
    with loopscope.allow_sync("no agent"):
        assert torch.ones(()).item() == 1


@pytest.mark.parametrize("settings", [{"sync_budget": -1}, {"sync_device": "cuda:0"}, {"sync_interval": 0},
                                      {"allow_syncs": ("12",)}])  # fmt: skip
def test_wrong_settings_are_errors_at_attach(settings: dict[str, Any]) -> None:
    """And nothing is left behind."""
    before = torch.Tensor.tolist

    with pytest.raises(SettingError):
        loopscope.attach(network(), port=None, **settings)

    assert torch.Tensor.tolist is before
