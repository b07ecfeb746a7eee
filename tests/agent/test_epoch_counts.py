"""Laws of an epoch's counts and losses: every step counts once and as what it was, and what is unknown is absent."""

from __future__ import annotations

import math

import numpy as np
import pytest
from tests.aggregating import INF, LAYERS, NAN, epoch_of, layers_of, steps_of
from tests.builders import gradient_table, step_report


@pytest.mark.parametrize("reason", ["grad_scaler", "manual"])
def test_skipped_steps_count_as_skipped_only(reason: str) -> None:
    """A skipped step is in no norm and no loss; it counts as skipped and, with its gradients, as non-finite."""
    taken = steps_of(np.full((4, 3), 2.0), loss=1.0)
    bad = gradient_table((INF, 2.0, 3.0), layers=LAYERS, num_nonfinite=(1, 0, 0))

    epoch = epoch_of([*taken[:2], step_report(2, skipped=reason, loss=50.0, gradients=bad), *taken[2:]])

    assert (epoch.num_steps, epoch.num_reports, epoch.num_skipped) == (4, 4, {reason: 1})
    assert (epoch.first_step, epoch.last_step) == (0, 3)
    assert epoch.num_nonfinite_steps == 1
    assert layers_of(epoch).num_nonfinite_steps.tolist() == [0, 0, 0]
    assert layers_of(epoch).mean.tolist() == [2.0, 2.0, 2.0]
    assert epoch.loss == 1.0


def test_epoch_of_skipped_steps_is_reported() -> None:
    """Where every step was skipped the epoch says so, with the number that they would have had."""
    epoch = epoch_of([step_report(9, skipped="grad_scaler"), step_report(9, skipped="grad_scaler")])

    assert (epoch.num_steps, epoch.num_skipped, epoch.loss) == (0, {"grad_scaler": 2}, None)
    assert (epoch.first_step, epoch.last_step) == (9, 9)


def test_skipped_step_at_the_end_does_not_reach_into_the_next_epoch() -> None:
    """The number of a skipped step belongs to the next step, so it is not the last one of the epoch."""
    epoch = epoch_of([step_report(4), step_report(5), step_report(6, skipped="manual")])

    assert (epoch.first_step, epoch.last_step) == (4, 5)


def test_dropped_reports_count_as_steps() -> None:
    """A report stands for the steps dropped before it: in num_steps, not in num_reports."""
    epoch = epoch_of([step_report(2, num_steps=3), step_report(3), step_report(9, num_steps=6)])

    assert (epoch.num_steps, epoch.num_reports) == (10, 3)
    assert (epoch.first_step, epoch.last_step) == (0, 9)


def test_counts_are_sums() -> None:
    """Micro-steps, samples and durations add up; a duration that is not known is left out."""
    reports = [
        step_report(0, num_micro_steps=4, num_samples=128, duration_seconds=None),
        step_report(1, num_micro_steps=4, num_samples=100, duration_seconds=0.25),
        step_report(2, num_micro_steps=2, num_samples=0, duration_seconds=0.5),
    ]

    epoch = epoch_of(reports)

    assert (epoch.num_micro_steps, epoch.num_samples, epoch.duration_seconds) == (10, 228, 0.75)


def test_unknown_samples_are_absent() -> None:
    """Where no report knows its samples the number is not known, rather than 0."""
    assert epoch_of([step_report(0, samples=None, num_samples=0)]).num_samples is None


@pytest.mark.parametrize(
    ("losses", "samples", "mean", "weighting"),
    [
        ((1.0, 4.0), (30, 10), 1.75, "samples"),
        ((1.0, 4.0), (30, None), 2.5, "batches"),
        ((1.0, 4.0), (None, None), 2.5, "batches"),
        ((1.0, None), (30, None), 1.0, "samples"),
        ((1.0, NAN), (30, None), 1.0, "samples"),
        ((NAN, INF), (30, 10), None, None),
        ((None, None), (30, 10), None, None),
    ],
)
def test_loss_is_weighted_by_samples_where_all_are_known(
    losses: tuple[float | None, ...], samples: tuple[int | None, ...], mean: float | None, weighting: str | None
) -> None:
    """The mean is over finite losses; by samples if each of those steps knew its samples, else by batches."""
    reports = [step_report(i, loss=loss, samples=n) for i, (loss, n) in enumerate(zip(losses, samples, strict=True))]

    epoch = epoch_of(reports)

    assert (epoch.loss, epoch.loss_weighting) == (mean, weighting)
    assert epoch.num_nonfinite_losses == sum(loss is not None and not math.isfinite(loss) for loss in losses)


def test_loss_is_over_all_steps() -> None:
    """The mean loss of an epoch is numpy's over every step, in float64."""
    losses = np.random.default_rng(1).lognormal(size=20_000)
    samples = np.random.default_rng(2).integers(1, 64, size=20_000)

    epoch = epoch_of(
        [
            step_report(i, loss=loss, samples=n, gradients=None)
            for i, (loss, n) in enumerate(zip(losses, samples.tolist(), strict=True))
        ]
    )

    assert epoch.loss == pytest.approx(np.average(losses, weights=samples), rel=1e-12)


def test_report_says_whose_it_is() -> None:
    """Run, agent, rank and optimizer are those of the steps."""
    epoch = epoch_of([step_report(0, run="r", agent="a", rank=3, optimizer="critic")])

    assert (epoch.run, epoch.agent, epoch.rank, epoch.optimizer) == ("r", "a", 3, "critic")
