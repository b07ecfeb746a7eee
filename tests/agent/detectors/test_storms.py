"""Laws of storms and of time: lines that wait, code compiled again, loops that wait for data, slow steps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.builders import event as made_event
from tests.builders import step_report
from tests.detecting import see

from loopscope.detectors.storms import DeviceSyncStorm, RecompileStorm, RecompileStormRule, SyncStormRule
from loopscope.detectors.timing import InputBound, InputBoundRule, OutlierRule, StepTimeOutlier
from loopscope.records import Event, StepReport, SyncCount


def _syncs(num_steps: int = 100, *, every: int = 1, **changes: Any) -> list[StepReport]:
    sync = SyncCount(**{"kind": "item", "site": "train.py:12", "count": 1, "seconds": 0.0} | changes)
    return [step_report(step, syncs=(sync,) if step % every == 0 else ()) for step in range(num_steps)]


@pytest.mark.parametrize(
    ("reports", "is_told"),
    [
        (_syncs(count=1, seconds=0.09), False),
        (_syncs(count=8), True),
        (_syncs(count=2, seconds=0.05), True),
        (_syncs(count=2, seconds=0.001), False),
        (_syncs(count=80, every=10), False),
        (_syncs(count=8, is_allowed=True), False),
        (_syncs(20, count=8), False),
    ],
    ids=["one", "many", "long", "short", "seldom", "allowed", "not a window"],
)
def test_line_that_waits_on_most_steps_is_a_storm(reports: list[StepReport], *, is_told: bool) -> None:
    """By its waits a step, or by the share of the step; told once, at the end of the first window."""
    events = see(DeviceSyncStorm(SyncStormRule()), reports)

    assert [(e.kind, e.site, e.step) for e in events] == [("device_sync_storm", "train.py:12", 24)] * is_told


def test_storm_may_come_again() -> None:
    """After two calm windows."""
    calm = [step_report(step) for step in range(50)]

    assert len(see(DeviceSyncStorm(SyncStormRule()), [*_syncs(50, count=9), *calm, *_syncs(50, count=9)])) == 2


def _recompiled(*steps: int, severity: str = "warning") -> list[Event]:
    found = made_event("recompilation", severity, site="model.py:3")
    reports = [step_report(step, events=(found,) if step in steps else ()) for step in range(400)]
    return see(RecompileStorm(RecompileStormRule()), reports)


def test_recompilations_in_a_row_are_a_storm() -> None:
    """The fifth within 100 steps is told, at the line that most of them have."""
    (event,) = _recompiled(10, 20, 30, 40, 50, 60)

    assert (event.kind, event.step, event.site) == ("recompile_storm", 50, "model.py:3")


def test_lines_of_a_storm_are_named_the_most_frequent_first() -> None:
    """Those of which there are as many stand in the order in which they came, in every process."""
    sites = ["z.py:1", "b.py:2", "a.py:3", "c.py:4", "c.py:4"]
    reports = [
        step_report(step, events=(made_event("recompilation", "warning", site=site),))
        for step, site in enumerate(sites)
    ]

    (event,) = see(RecompileStorm(RecompileStormRule()), reports)

    assert event.attributes["sites"] == ["c.py:4", "z.py:1", "b.py:2", "a.py:3"]


def test_few_or_expected_recompilations_are_none() -> None:
    """Four, or five over 400 steps, or such as a train and an eval variant need."""
    assert _recompiled(1, 2, 3, 4) == []
    assert _recompiled(1, 90, 180, 270, 360) == []
    assert _recompiled(*range(20), severity="info") == []


def _waits(*waits: float, duration: float = 0.02) -> list[StepReport]:
    return [
        step_report(step, duration_seconds=duration + wait, phases={"data_wait": wait, "forward": duration})
        for step, wait in enumerate(waits)
    ]


@pytest.mark.parametrize(
    ("reports", "is_told"),
    [
        (_waits(*[0.03] * 120), True),
        (_waits(*[0.01] * 120), False),
        (_waits(*[0.002] * 120, duration=0.001), False),
        (_waits(*[2.0, *[0.0] * 49] * 3), False),
        (_waits(*[0.2, 0.0, 0.0, 0.0] * 30), True),
        ([step_report(step, duration_seconds=None, phases={}) for step in range(120)], False),
    ],
    ids=["bound", "not", "tiny", "first of an epoch", "bursts", "not known"],
)
def test_loop_that_waits_for_data_is_input_bound(reports: list[StepReport], *, is_told: bool) -> None:
    """Half of the time and on many steps; told once, at the end of the first window."""
    events = see(InputBound(InputBoundRule()), reports)

    assert [(event.kind, event.step) for event in events] == [("input_bound", 49)] * is_told


def _durations(outliers: dict[int, float], *, seed: int = 0) -> list[StepReport]:
    usual = 0.01 * np.exp(np.random.default_rng(seed).normal(0, 0.2, 300))
    return [
        step_report(step, duration_seconds=outliers.get(step, float(seconds)), phases={"forward": 0.009})
        for step, seconds in enumerate(usual)
    ]


def test_slow_step_is_information_with_its_reasons() -> None:
    """Told with phases, waits and events of the step; steps while it lasts are told of once."""
    reports = _durations({100: 0.5, 101: 0.6})

    (event,) = see(StepTimeOutlier(OutlierRule()), reports)

    assert (event.kind, event.severity, event.step) == ("step_time_outlier", "info", 100)
    assert set(event.attributes) == {"phases", "syncs", "events"}


@pytest.mark.parametrize("seed", range(5))
def test_usual_times_are_silent(seed: int) -> None:
    """Noise, the first steps, and what a person would not notice."""
    assert see(StepTimeOutlier(OutlierRule()), _durations({0: 5.0, 5: 2.0, 150: 0.045}, seed=seed)) == []
