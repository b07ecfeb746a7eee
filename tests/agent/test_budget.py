"""Laws of the budget: how often the dear statistics are taken. Costs are made up."""

from __future__ import annotations

import itertools

import pytest

from loopscope.budget import Budget


def run(
    budget: Budget, *, step_seconds: float, base_seconds: float, sample_seconds: float, num_steps: int
) -> list[int]:
    """Return the steps that were sampled."""
    sampled = []
    for step in range(num_steps):
        if budget.is_due(step):
            sampled.append(step)
            budget.note_sample(step, sample_seconds)
        budget.note_step(step_seconds=step_seconds, base_seconds=base_seconds)
    return sampled


def test_first_step_is_sampled():
    """A short run has a sample."""
    assert Budget(0.01).is_due(0)


@pytest.mark.parametrize(
    ("share", "step_seconds", "base_seconds", "sample_seconds"),
    [
        (0.01, 1.0, 0.002, 0.05),
        (0.01, 0.1, 0.0003, 0.01),
        (0.05, 0.1, 0.001, 0.02),
        (0.01, 0.0004, 30e-6, 1e-3),  # a fast step: the floor of 100 us holds, not 1 %
    ],
)
def test_cost_stays_within_the_budget(share, step_seconds, base_seconds, sample_seconds):
    """What every step costs and what samples cost are, over many steps, within max(share of the step, 100 us)."""
    num_steps = 20_000
    sampled = run(
        Budget(share),
        step_seconds=step_seconds,
        base_seconds=base_seconds,
        sample_seconds=sample_seconds,
        num_steps=num_steps,
    )
    cost = base_seconds + sample_seconds * len(sampled) / num_steps

    assert cost <= 1.01 * max(share * step_seconds, 100e-6)


def test_half_of_what_is_left_is_used():
    """Samples use half of the budget: of 1 s a step 10 ms may be used, 5 ms a step are 50 samples of 100 ms."""
    sampled = run(Budget(0.01), step_seconds=1.0, base_seconds=0.0, sample_seconds=0.1, num_steps=1_000)

    assert len(sampled) == pytest.approx(50, abs=2)


def test_cheap_samples_are_taken_at_every_step():
    """Where the budget has room for it every step is sampled."""
    sampled = run(Budget(0.01), step_seconds=1.0, base_seconds=0.0, sample_seconds=0.001, num_steps=100)

    assert len(sampled) > 90


def test_samples_come_even_where_the_base_uses_up_the_budget():
    """A twentieth of the budget is kept for samples, whatever the statistics of every step cost."""
    sampled = run(Budget(0.01), step_seconds=0.1, base_seconds=0.5, sample_seconds=0.001, num_steps=1_000)

    assert len(sampled) == pytest.approx(50, abs=2)


def test_sample_that_came_to_nothing_is_not_made_up_for():
    """Where the worker is behind the next try comes an interval later, not at each step."""
    budget = Budget(0.01)

    assert [step for step in range(25) if budget.is_due(step)] == [0, 10, 20]


@pytest.mark.parametrize("sample_seconds", [10.0, 1e9])
def test_interval_is_bounded(sample_seconds):
    """However dear a sample is, one comes every two hundred steps."""
    sampled = run(Budget(0.01), step_seconds=0.01, base_seconds=0.0, sample_seconds=sample_seconds, num_steps=5_000)

    assert max(b - a for a, b in itertools.pairwise(sampled)) == 200


def test_interval_follows_the_cost():
    """When samples become dearer the interval grows, and it shrinks again when they become cheaper."""
    budget = Budget(0.01)
    intervals = []
    for cost_seconds in (0.01, 0.1, 0.01):
        for step in range(20):
            budget.note_step(step_seconds=1.0, base_seconds=0.0)
            budget.note_sample(step, cost_seconds)
        intervals.append(budget.interval)

    assert intervals[0] < intervals[1] > intervals[2]
    assert intervals[2] <= intervals[0] + 1
