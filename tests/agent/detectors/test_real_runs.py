"""Laws of all default detectors together, on real loops with seeds that no threshold was chosen by."""

from __future__ import annotations

import pytest
from tests.broken_runs import BROKEN
from tests.detecting import alarms
from tests.training_runs import FAULTS, HEALTHY

SEEDS = (40, 41, 42)
ALL_FAULTS = {**FAULTS, **BROKEN}


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", HEALTHY)
def test_healthy_loops_are_silent(name: str, seed: int) -> None:
    """No event of warning or above in hundreds of steps."""
    reports = HEALTHY[name](seed)

    assert [(event.kind, event.step, event.message) for event in alarms(reports)] == []


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", ALL_FAULTS)
def test_planted_fault_is_told_first(name: str, seed: int) -> None:
    """The first alarm has the right kind and layer, comes in time, and nothing else is alarmed of than its results."""
    fault = ALL_FAULTS[name]

    events = alarms(fault.run(seed))

    assert events
    first = events[0]
    assert first.first_cause
    assert first.kind in fault.kinds
    assert fault.onset <= first.step <= fault.onset + fault.within
    assert not fault.layers or first.layer in fault.layers
    kinds = {event.kind for event in events}
    assert kinds <= fault.kinds | fault.also
    assert len(kinds - {first.kind}) <= 2
    assert [event.kind for event in events if event.first_cause] == [first.kind]
