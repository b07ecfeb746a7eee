"""Laws of the actions: what the user asked for is done about events, and nothing of it reaches the loop."""

from __future__ import annotations

import math
import threading

import pytest
from tests.loops import batch, network, watch
from torch.optim import SGD

from loopscope import attach
from loopscope.errors import SettingError


class Loop:
    """A loop whose batches can be spoilt."""

    def __init__(self) -> None:
        self.model = network()
        self.optimizer = SGD(self.model.parameters(), 0.01)

    def step(self, factor=1.0, *, is_taken=True):
        """Train on a batch."""
        (self.model(batch()).square().mean() * factor).backward()
        if is_taken:
            self.optimizer.step()
        self.optimizer.zero_grad()


def test_the_callback_gets_every_event():
    """Each event arrives once, in order, on the worker thread, those for information too."""
    loop, got = Loop(), []
    with watch(
        loop.model, loop.optimizer, on_event=lambda each: got.append((threading.current_thread().name, each))
    ) as watched:
        loop.optimizer.param_groups[0]["params"][0].requires_grad_(False)
        for _ in range(30):
            loop.step()
        loop.step(math.nan)
        watched.agent.flush()

        assert [each for _, each in got] == list(watched.agent.events)
    assert {"info", "critical"} <= {each.severity for _, each in got}
    assert {name for name, _ in got} == {"loopscope-worker"}


def test_a_callback_that_raises_stays_outside_of_the_loop():
    """What it raises is counted; the loop and the other exporters go on."""
    loop = Loop()

    def fail(event):
        raise OSError(event.kind)

    with watch(loop.model, loop.optimizer, on_event=fail, strict=False) as watched:
        loop.step(math.nan)
        loop.step()

        assert len(watched.reports) == 2
        assert watched.agent.internal_errors == {"exporter.actions": len(watched.memory.events)}
        assert watched.memory.events


def test_a_callback_that_is_switched_off_leaves_the_wish_to_stop():
    """After so many faults the callback is called no more; `should_stop` is another part."""
    loop = Loop()

    def fail(event):
        raise OSError(event.kind)

    settings = {"on_event": fail, "stop_on": "nonfinite_loss", "fault_limit": 1, "strict": False}
    with watch(loop.model, loop.optimizer, **settings) as watched:
        loop.model[0].bias.register_hook(lambda gradient: gradient * math.inf)
        loop.step(is_taken=False)
        watched.agent.flush()
        assert watched.agent.internal_errors == {"exporter.actions": 1}
        assert not watched.agent.should_stop
        loop.step(math.nan, is_taken=False)
        watched.agent.flush()

        assert watched.agent.should_stop
        assert watched.agent.internal_errors == {"exporter.actions": 1}


@pytest.mark.parametrize(
    ("stop_on", "is_taken", "should_stop"),
    [
        (("critical",), True, True),
        (("warning",), False, True),
        (("critical",), False, True),
        ("nonfinite_gradient", False, True),
        (("loss_plateau", "nonfinite_loss"), True, True),
        (("memory_creep",), True, False),
        ((), True, False),
    ],
)
def test_severities_and_kinds_are_wishes_to_stop(stop_on, is_taken, should_stop):
    """An event of a severity or kind in `stop_on` sets `should_stop`, for good."""
    loop = Loop()
    severity = "critical" if "critical" in stop_on else None
    with watch(loop.model, loop.optimizer, stop_on=stop_on) as watched:
        loop.step()
        watched.agent.flush()
        assert not watched.agent.should_stop
        loop.step(math.nan, is_taken=is_taken)
        watched.agent.flush()
        has_happened = any(each.severity == severity for each in watched.agent.events)

        assert watched.agent.should_stop == (has_happened if severity is not None else should_stop)
        before = watched.agent.should_stop
        for _ in range(20):
            loop.step()
        watched.agent.flush()
        assert watched.agent.should_stop == before


def test_a_healthy_run_does_not_stop():
    """By default only what is critical is a wish to stop."""
    loop = Loop()
    with watch(loop.model, loop.optimizer) as watched:
        for _ in range(100):
            loop.step()
        watched.agent.flush()

        assert watched.agent.should_stop is False


@pytest.mark.parametrize("stop_on", ["fatal", ("critical", "nonfinite_los"), "Critical"])
def test_a_name_that_does_not_exist_is_told_at_attach(stop_on):
    """A wish that could never be met is an error that says which names there are."""
    loop = Loop()

    with pytest.raises(SettingError, match=r"stop_on=.* cannot be used.*severities \(info, warning, critical\)"):
        attach(loop.model, loop.optimizer, port=None, stop_on=stop_on)


def test_without_an_agent_nothing_stops(monkeypatch):
    """Switched off, `should_stop` is False and health unknown."""
    monkeypatch.setenv("LOOPSCOPE_DISABLED", "1")
    loop = Loop()
    agent = attach(loop.model, loop.optimizer)

    assert (agent.should_stop, agent.health) == (False, None)
