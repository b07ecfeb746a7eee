"""Laws of the moments: an event on a step that was bad or slow says what else happened in it."""

from __future__ import annotations

import math
from typing import Any

import pytest
from tests.builders import event, gradient_table, step_report

from loopscope.detectors.moments import Moments
from loopscope.records import StepReport, SyncCount


def sync(line: int, seconds: float) -> SyncCount:
    """Return a wait at a line."""
    return SyncCount(kind="item", site=f"train.py:{line}", count=1, seconds=seconds)


def happened(report: StepReport, noted: Any = (), kind: str = "loss_spike") -> Any:
    """Return what an event on the report's step is told to have happened."""
    moments = Moments()
    moments.add(report, noted)
    told = moments.explain(event(kind, step=report.step, optimizer=report.optimizer))
    return told.attributes.get("happened")


def test_everything_that_is_known_is_there():
    """Phases, the three longest waits, compilations by line, pauses, batch, rates, scale, clipping and loss."""
    report = step_report(
        7,
        syncs=tuple(sync(line, line / 1_000) for line in (3, 9, 1, 7)),
        pauses={"garbage_collection": 0.5},
        batch=0,
        grad_scale=512.0,
        gradients=gradient_table(global_norm_pre_clip=22.5),
    )
    noted = [event("recompilation", "info", 7, site="model.py:5"), event("device_sync", "info", 7, site="train.py:9")]

    assert happened(report, noted) == {
        "phases": report.phases,
        "syncs": {"train.py:9 item": 0.009, "train.py:7 item": 0.007, "train.py:3 item": 0.003},
        "events": ["recompilation at model.py:5"],
        "pauses": {"garbage_collection": 0.5},
        "batch": 0,
        "learning_rates": [0.1],
        "grad_scale": 512.0,
        "norm_before_clipping": 22.5,
        "loss": 2.5,
    }


def test_what_is_unknown_is_left_out():
    """A step of which nothing is known has nothing in it."""
    assert happened(step_report(0, phases={}, learning_rates=(), loss=None, gradients=None)) == {}


@pytest.mark.parametrize("loss", [math.nan, math.inf, 0.0])
def test_values_that_look_like_nothing_are_kept(loss):
    """Zero and NaN are values."""
    assert str(happened(step_report(0, loss=loss))["loss"]) == str(loss)


@pytest.mark.parametrize("kind", ["recompilation", "dead_layer", "loss_plateau", "memory_creep", "home_made"])
def test_other_events_are_left_as_they_are(kind):
    """What lasts, or is its own explanation, has no moment."""
    told = event(kind)

    assert happened(step_report(0), kind=kind) is None
    assert Moments().explain(told) is told


def test_an_event_that_is_told_later_has_its_own_step():
    """A spike is known a step later, and reports of other optimizers come between."""
    moments = Moments()
    for step in (4, 5):
        for optimizer in ("generator", "critic"):
            moments.add(step_report(step, optimizer=optimizer, batch=10 * step + (optimizer == "critic")), ())

    told = moments.explain(event("gradient_spike", step=4, optimizer="critic", attributes={"mine": 1}))

    assert told.attributes["happened"]["batch"] == 41
    assert told.attributes["mine"] == 1


def test_few_steps_are_kept():
    """An event on a step that is long gone has no moment: memory is bounded."""
    moments = Moments()
    for step in range(100):
        moments.add(step_report(step), ())

    assert "happened" not in moments.explain(event("loss_spike", step=50)).attributes
    assert "happened" in moments.explain(event("loss_spike", step=95)).attributes
