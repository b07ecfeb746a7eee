"""The run in a word: healthy, what is open, stalled, ended; an anomaly stands with what followed from it."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest
from tests.builders import anomaly, event, health_report, run_info, step_report
from tests.top.states import state

from loopscope.top.client import Failure
from loopscope.top.health import Case, Link, cases, verdict

GONE = Failure("gone", "Nothing listens.")


def step(number: int = 3, ago: float = 0.0, **changes: Any) -> Any:
    """A step some time ago."""
    return step_report(number, time_unix_seconds=time.time() - ago, **changes)


def judged(*records: Any, link: Link | None = None) -> tuple[str, str, str]:
    """Grade, word and words of a run with these records."""
    known = state(run_info(), *records)
    found = verdict(known, link or Link(), cases(known))
    return found.grade, found.word, found.words


def test_run_without_anomaly_is_healthy() -> None:
    """Notes do not change that."""
    records = (step(), health_report(anomaly("loss_plateau", "info", layers=())), event("compilation", "info"))

    assert judged(*records) == ("good", "HEALTHY", "no anomaly")


@pytest.mark.parametrize(
    ("severities", "expected"),
    [
        (["warning"], ("warning", "WARNING", "1 anomaly open")),
        (["warning", "critical", "info"], ("critical", "CRITICAL", "2 anomalies open")),
    ],
)
def test_worst_of_what_is_open_decides(severities: list[str], expected: tuple[str, str, str]) -> None:
    """And all that a person should act on is counted."""
    opened = [anomaly(f"kind_{severity}", severity) for severity in severities]

    assert judged(step(), health_report(*opened)) == expected


def test_what_is_over_is_not_forgotten() -> None:
    """A run is healthy again, and what was told before is counted."""
    told = [event("exploding_gradient", "warning", 1, attributes={"incident": 1}), event("inplace_corruption", step=2)]

    assert judged(step(), *told, health_report()) == (
        "good",
        "HEALTHY",
        "nothing is open; before: 1 critical and 1 warning",
    )


@pytest.mark.parametrize(
    ("ago", "duration", "word"), [(50, 0.1, "HEALTHY"), (70, 0.1, "STALLED"), (70, 10, "HEALTHY"), (230, 10, "STALLED")]
)
def test_stalled_is_long_against_the_usual_step(ago: float, duration: float, word: str) -> None:
    """A minute at the least, and twenty steps of those that take long."""
    found = judged(step(1, duration_seconds=duration), step(2, ago, duration_seconds=duration))

    assert found[1] == word
    assert word == "HEALTHY" or found[2].startswith("no step for ")


def test_stalled_says_how_long_and_what_is_usual() -> None:
    """In units of a person, and how it was."""
    assert judged(step(1, 125.4)) == (
        "warning",
        "STALLED",
        "no step for 2 min 5 s (it takes 100 ms). It was healthy: no anomaly",
    )


@pytest.mark.parametrize("failure", [GONE, Failure("missing", "agent='model' is not here.")])
def test_end_is_told_with_when_it_was_last_seen(failure: Failure) -> None:
    """Also where only the agent has gone; how it was before stands beside it."""
    grade, word, words = judged(
        step(), health_report(anomaly(severity="critical")), link=Link(failure=failure, silent_seconds=12.4)
    )

    assert (grade, word) == ("critical", "ENDED")
    assert words == ("the run has ended or its process is gone (last seen 12 s ago). It was critical: 1 anomaly open")


@pytest.mark.parametrize(
    ("link", "why"),
    [
        (Link(failure=Failure("silent", ""), silent_seconds=30), "suspended, or very busy"),
        (Link(is_late=True, silent_seconds=30), "suspended, or very busy"),
        (Link(failure=Failure("unreachable", ""), silent_seconds=30), "the host or the network is away"),
    ],
)
def test_silence_is_no_end(link: Link, why: str) -> None:
    """A process that is suspended has not ended."""
    assert judged(step(), link=link) == ("unknown", "NO ANSWER", f"for 30 s: {why}. It was healthy: no anomaly")


def test_first_step_is_waited_for() -> None:
    """Before it nothing is healthy or ill."""
    assert judged()[:2] == ("unknown", "STARTING")


def found(*records: Any) -> list[Case]:
    """The cases of a run with these records."""
    return list(cases(state(run_info(), step(), *records)))


def test_first_cause_stands_for_what_followed() -> None:
    """One case, with the cause's own words, however the events came; it counts as the anomalies that it has."""
    (case,) = found(
        event("nonfinite_loss", step=7, layer=None, attributes={"incident": 4}),
        event(
            step=7, layer="encoder", first_cause=True, message="It is NaN.", remedy="Clip.", attributes={"incident": 4}
        ),
        health_report(anomaly(step=7), anomaly("nonfinite_loss", step=7, layers=())),
    )

    assert case == Case(
        severity="critical",
        kind="nonfinite_gradient",
        where="encoder",
        when="since step 7",
        followers=["nonfinite_loss"],
        message="It is NaN.",
        remedy="Clip.",
        num_open=2,
    )


def test_anomaly_that_opens_again_is_not_the_one_before() -> None:
    """What was told before it opened is over; it is the latest that is open."""
    first, second = (event(step=number, attributes={"incident": number}) for number in (5, 900))

    opened, before = found(first, second, health_report(anomaly(step=900)))

    assert (opened.is_open, opened.when) == (True, "since step 900")
    assert (before.is_open, before.when) == (False, "step 5")


def test_anomaly_whose_event_is_no_longer_kept_is_there() -> None:
    """With what the health report has: kind, severity, layers, step."""
    (case,) = found(health_report(anomaly("dead_layer", "warning", step=3, layers=("head", "encoder"))))

    assert (case.kind, case.where, case.when, case.message) == ("dead_layer", "head and 1 more", "since step 3", "")


def test_anomaly_of_another_optimizer_is_told_apart() -> None:
    """The same kind of two optimizers is two cases."""
    opened = [anomaly(optimizer=name, step=0) for name in ("generator", "critic")]
    told = [event(optimizer=name, layer="head") for name in ("generator", "critic")]

    assert sorted(case.where for case in found(*told, health_report(*opened))) == [
        "head of critic",
        "head of generator",
    ]


def test_worst_comes_first_and_what_is_open_before_what_was() -> None:
    """In this order there may be no room for the last of them."""
    records = [
        event("inplace_corruption", step=1),
        event("input_bound", "warning", 2),
        health_report(anomaly("dead_layer", "warning"), anomaly("nonfinite_loss")),
    ]

    assert [case.kind for case in found(*records)] == [
        "nonfinite_loss",
        "dead_layer",
        "inplace_corruption",
        "input_bound",
    ]


def test_last_seen_counts_on() -> None:
    """The age of the latest step grows while nobody answers."""
    known = state(run_info(), step(ago=10))
    known = replace(known, server_seconds=known.step["time_unix_seconds"] + 10.0)

    assert verdict(known, Link(silent_seconds=60), ()).words.startswith("no step for 70 s ")
