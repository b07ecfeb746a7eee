"""Laws of the budget of syncs, and of several agents with settings of their own."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import torch
from tests.loops import watch
from tests.syncing import SIMULATED, Loop, counts

import loopscope

_HERE = Path(__file__)


def _line_of(text: str) -> int:
    """The line of this file that has the text and is marked."""
    (number,) = [n for n, line in enumerate(_HERE.read_text().splitlines(), 1) if f"# {text}" in line]
    return number


def _read(loss: torch.Tensor) -> None:
    loss.item()  # the item
    float(loss)  # the float


def _incidents(events: tuple[loopscope.Event, ...]) -> list[loopscope.Event]:
    return [event for event in events if event.severity == "warning"]


def test_budget_opens_one_incident() -> None:
    """The first step over the budget is an event that names the lines; those after it are the same incident."""
    loop = Loop()
    with watch(loop.model, loop.optimizer, **SIMULATED, sync_budget=1) as watched:
        loop.step(lambda loss: loss.item())
        for _ in range(10):
            loop.step(_read)
        assert len(watched.reports) == 11
        (event,) = _incidents(watched.memory.events)

    assert (event.kind, event.step, event.value, event.threshold) == ("device_sync", 1, 2.0, 1.0)
    assert event.attributes["syncs"] == {
        f"{site} {kind}": 1
        for kind in ("item", "float")
        for site in [f"tests/agent/probes/{_HERE.name}:{_line_of('the ' + kind)}"]
    }


def test_budget_opens_anew_after_the_incident_is_over() -> None:
    """After 50 steps within the budget the next one over it is an event again; after 49 it is not."""
    loop = Loop()
    with watch(loop.model, loop.optimizer, **SIMULATED, sync_budget=0) as watched:
        for pause in (49, 50, 0):
            loop.step(_read)
            for _ in range(pause):
                loop.step()
        assert watched.reports
        steps = [event.step for event in _incidents(watched.memory.events)]

    assert steps == [0, 101]


def test_allowed_syncs_are_not_in_the_budget() -> None:
    """What is allowed by a line or a block is left out."""

    def during(loss: torch.Tensor) -> None:
        _read(loss)
        with loopscope.allow_sync("meant"):
            loss.tolist()

    loop, place = Loop(), f"{_HERE.name}:{_line_of('the item')}"
    with watch(loop.model, loop.optimizer, **SIMULATED, sync_budget=1, allow_syncs=(place,)) as watched:
        loop.step(during)
        assert watched.reports

    assert _incidents(watched.memory.events) == []


def test_no_budget_no_incident() -> None:
    """By default there is none."""
    loop = Loop()
    with watch(loop.model, loop.optimizer, **SIMULATED) as watched:
        loop.step(_read)
        assert watched.reports

    assert _incidents(watched.memory.events) == []


def test_two_agents_have_their_own_settings() -> None:
    """Each counts what the process does, and each allows what its own settings say."""
    first, second = Loop(), Loop()
    with (
        watch(first.model, first.optimizer, **SIMULATED, allow_syncs=(_HERE.name,), sync_budget=0) as one,
        watch(second.model, second.optimizer, **SIMULATED, sync_budget=0) as other,
    ):
        first.step(_read)
        second.step(_read)
        reports = one.reports[0], other.reports[0]
        incidents = [len(_incidents(watched.memory.events)) for watched in (one, other)]

    assert counts(reports[0], is_allowed=True) == Counter(item=1, float=1)
    assert counts(reports[1], is_allowed=False) == Counter(item=2, float=2)
    assert incidents == [0, 1]


def test_two_simulations_count_an_operator_once() -> None:
    """Agents of one thread share the mode that looks into operators."""
    first, second = Loop(), Loop()
    with watch(first.model, first.optimizer, **SIMULATED) as one:
        with watch(second.model, second.optimizer, **SIMULATED) as other:
            second.step(lambda _: torch.ones(3).nonzero())
            assert counts(other.only, is_allowed=False) == Counter(nonzero=1)
        first.step(lambda _: torch.ones(3).nonzero())

        assert counts(one.only, is_allowed=False) == Counter(nonzero=2)


def test_the_simulation_is_of_the_agent_that_asked_for_it() -> None:
    """An agent without it counts nothing on the CPU, next to one with it; the latter's leaving ends it."""
    first, second = Loop(), Loop()
    with watch(first.model, first.optimizer) as plain:
        with watch(second.model, second.optimizer, **SIMULATED) as simulated:
            first.step(_read)
            second.step(_read)
            assert simulated.reports[0].syncs
        first.step(_read)
        assert [report.syncs for report in plain.reports] == [(), ()]


def test_what_was_before_attach_is_not_counted() -> None:
    """The counters of the second of two agents begin with it."""
    first, second = Loop(), Loop()
    with watch(first.model, first.optimizer, **SIMULATED):
        first.step(_read)
        with watch(second.model, second.optimizer, **SIMULATED) as late:
            second.step()

            assert late.only.syncs == ()


def test_operators_are_looked_into_at_the_interval() -> None:
    """The first step and each k-th from there; explicit calls at every step."""

    def during(loss: torch.Tensor) -> None:
        loss.item()
        torch.ones(3).masked_select(torch.ones(3) > 0)

    loop = Loop()
    with watch(loop.model, loop.optimizer, **SIMULATED, sync_interval=4) as watched:
        for _ in range(10):
            loop.step(during)
        kinds = [counts(report, is_allowed=False) for report in watched.reports]

    assert [kind["masked_select"] for kind in kinds] == [1, 0, 0, 0, 1, 0, 0, 0, 1, 0]
    assert [kind["item"] for kind in kinds] == [1] * 10
