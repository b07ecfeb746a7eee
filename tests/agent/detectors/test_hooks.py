"""Laws of the detectors of hooks that pile up and of hooks that never run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from tests.builders import step_report
from tests.detecting import see

from loopscope.detectors.hooks import HookLeak, HookLeakRule, HookNeverFires, SilentHookRule
from loopscope.records import Event, HookCount, HookSilence


def _leaks(counts: Sequence[int], **changes: Any) -> list[Event]:
    values = {"where": "body", "hook_kind": "forward", "site": "train.py:3", "function": "hook"} | changes
    reports = [step_report(8 * i, hooks=(HookCount(count=count, **values),)) for i, count in enumerate(counts)]
    return see(HookLeak(HookLeakRule()), reports)


def test_leak_is_told_once() -> None:
    """At the fourth audit that found more, with how many there are a step."""
    (event,) = _leaks([8, 16, 24, 32, 40, 48, 56])

    assert (event.kind, event.severity, event.step) == ("hook_leak", "warning", 32)
    assert (event.layer, event.site, event.value) == ("body", "train.py:3", 40)
    assert event.attributes["per_step"] == pytest.approx(1.0)


@pytest.mark.parametrize("counts", [[100], [1, 200], [1, 2, 3, 4, 5, 6], [8, 16, 1, 8, 16, 1, 8, 16], [1, 0] * 20])
def test_hooks_that_come_and_go_are_no_leak(counts: list[int]) -> None:
    """Neither many at once, nor a few one after the other, nor what is taken away again."""
    assert _leaks(counts) == []


def test_container_of_graphs_has_a_remedy_of_its_own() -> None:
    """To detach what is kept."""
    (event,) = _leaks([8, 16, 24, 32, 40], container="features")

    assert "detach" in event.remedy
    assert event.attributes["container"] == "features"


def _silences(looks: Sequence[int], **changes: Any) -> list[Event]:
    values = {"where": "body", "hook_kind": "forward", "site": "train.py:3", "function": "hook"}
    values |= {"is_trained": True, "is_compiled": False} | changes
    reports = [step_report(i, hooks=(HookSilence(num_looks=count, **values),)) for i, count in enumerate(looks)]
    return see(HookNeverFires(SilentHookRule()), reports)


@pytest.mark.parametrize(("is_trained", "step"), [(True, 2), (False, 9)])
def test_silence_is_told_after_enough_looks(is_trained: bool, step: int) -> None:
    """Three where the module trains, ten where only the module around it is called."""
    (event,) = _silences(range(1, 20), is_trained=is_trained)

    assert (event.kind, event.severity, event.step, event.layer) == ("hook_never_fires", "warning", step, "body")


@pytest.mark.parametrize(("num_running", "severity"), [(0, "warning"), (1, "warning"), (2, "info"), (30, "info")])
def test_hooks_on_everything_are_info(num_running: int, severity: str) -> None:
    """Where the function runs on as many modules as it does not."""
    (event,) = _silences([5], num_silent=2, num_running=num_running)

    assert event.severity == severity


def test_compilation_is_named() -> None:
    """With what to do about it."""
    (event,) = _silences([5], is_compiled=True)

    assert "torch.compile" in event.message
    assert "before the first call" in event.remedy
