"""Laws of an epoch's norms: all steps are in, and the statistics are those that numpy finds in all of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.aggregating import INF, LAYERS, NAN, epoch_of, layers_of, random_norms, steps_of
from tests.builders import gradient_sample, gradient_table, step_report

from loopscope.epochs import MAX_EXACT_STEPS

# Shape legend: N steps, G layers.


@pytest.mark.parametrize("num_steps", [1, 2, 255, 256, 257, 1_000, MAX_EXACT_STEPS])
@pytest.mark.parametrize(
    ("statistic", "reference"),
    [
        ("mean", np.mean),
        ("max", np.max),
        ("min", np.min),
        ("p50", np.median),
        ("p95", lambda norms, axis: np.quantile(norms, 0.95, axis=axis)),
    ],
)
def test_statistics_cover_all_steps(num_steps: int, statistic: str, reference: Any) -> None:
    """Up to MAX_EXACT_STEPS every statistic of a layer is numpy's over all steps."""
    norms_NG = random_norms(num_steps)

    epoch = epoch_of(steps_of(norms_NG))

    np.testing.assert_allclose(getattr(layers_of(epoch), statistic), reference(norms_NG, axis=0), rtol=1e-12)
    assert epoch.quantiles_are_exact
    assert epoch.global_norm[statistic] == pytest.approx(reference(np.linalg.norm(norms_NG, axis=1), axis=0))


@pytest.mark.parametrize(
    ("num_steps", "stride"),
    [(MAX_EXACT_STEPS + 1, 2), (2 * MAX_EXACT_STEPS, 2), (2 * MAX_EXACT_STEPS + 1, 4), (40_001, 8)],
)
def test_quantiles_of_long_epochs_are_taken_from_every_nth_step(num_steps: int, stride: int) -> None:
    """Beyond MAX_EXACT_STEPS the quantiles are those of every 2nd, 4th, ... step, and the report says so."""
    norms_NG = random_norms(num_steps)

    epoch = epoch_of(steps_of(norms_NG))

    assert not epoch.quantiles_are_exact
    np.testing.assert_allclose(layers_of(epoch).p95, np.quantile(norms_NG[::stride], 0.95, axis=0))


@pytest.mark.parametrize(("statistic", "reference"), [("mean", np.mean), ("max", np.max), ("min", np.min)])
def test_long_epochs_leave_no_step_out_of_the_other_statistics(statistic: str, reference: Any) -> None:
    """Mean and extremes are exact however long the epoch is."""
    norms_NG = random_norms(20_000)

    statistics = layers_of(epoch_of(steps_of(norms_NG)))

    np.testing.assert_allclose(getattr(statistics, statistic), reference(norms_NG, axis=0), rtol=1e-12)
    assert statistics.num_steps.tolist() == [20_000] * 3


@pytest.mark.parametrize("value", [NAN, INF])
def test_nonfinite_norms_are_counted_and_left_out(value: float) -> None:
    """A non-finite norm is in no statistic of its layer; the other layers of the step stay in theirs."""
    norms_NG = random_norms(50)
    is_finite_N = np.arange(50) % 7 != 3
    reports = steps_of(norms_NG)
    bad = [
        step_report(step, gradients=gradient_table((row[0], value, row[2]), layers=LAYERS, num_nonfinite=(0, 5, 0)))
        for step, row in enumerate(norms_NG)
    ]

    epoch = epoch_of([good if is_finite_N[i] else bad[i] for i, good in enumerate(reports)])

    assert layers_of(epoch).mean[1] == pytest.approx(norms_NG[is_finite_N, 1].mean())
    assert layers_of(epoch).p95[1] == pytest.approx(np.quantile(norms_NG[is_finite_N, 1], 0.95))
    assert layers_of(epoch).mean[0] == pytest.approx(norms_NG[:, 0].mean())
    assert layers_of(epoch).num_steps.tolist() == [50, is_finite_N.sum(), 50]
    assert layers_of(epoch).num_nonfinite_steps.tolist() == [0, (~is_finite_N).sum(), 0]
    assert epoch.num_nonfinite_steps == (~is_finite_N).sum()
    assert epoch.global_norm["mean"] == pytest.approx(np.linalg.norm(norms_NG[is_finite_N], axis=1).mean())


def test_absent_gradients_are_not_counted() -> None:
    """A layer without a gradient is neither a finite nor a non-finite step of its own."""
    absent = step_report(1, gradients=gradient_table((1.0, NAN, 3.0), layers=LAYERS))

    epoch = epoch_of([*steps_of(np.full((1, 3), 2.0)), absent])

    assert layers_of(epoch).num_steps.tolist() == [2, 1, 2]
    assert layers_of(epoch).num_nonfinite_steps.tolist() == [0, 0, 0]
    assert layers_of(epoch).mean.tolist() == [1.5, 2.0, 2.5]
    assert epoch.num_nonfinite_steps == 0


@pytest.mark.parametrize("statistic", ["mean", "max", "min", "p50", "p95"])
def test_layer_that_never_had_a_gradient_is_unknown(statistic: str) -> None:
    """A statistic of nothing is NaN, not zero."""
    epoch = epoch_of([step_report(0, gradients=gradient_table((1.0, NAN, 3.0), layers=LAYERS))])

    assert np.isnan(getattr(layers_of(epoch), statistic)).tolist() == [False, True, False]


def test_counts_carried_from_dropped_steps_leave_the_norm_in() -> None:
    """Non-finite elements of a dropped step count, and the finite norm of the step that carries them is used."""
    carrier = step_report(
        3, num_steps=2, gradients=gradient_table((1.0, 2.0, 3.0), layers=LAYERS, num_nonfinite=(0, 4, 0))
    )

    epoch = epoch_of([carrier])

    assert layers_of(epoch).mean.tolist() == [1.0, 2.0, 3.0]
    assert layers_of(epoch).num_nonfinite_steps.tolist() == [0, 1, 0]


def test_no_gradients_give_no_statistics() -> None:
    """An epoch that never saw a gradient has none, and no global norm."""
    epoch = epoch_of([step_report(0, gradients=None)])

    assert epoch.gradients is None
    assert epoch.global_norm == {}


def test_epoch_of_nonfinite_steps_has_no_global_norm() -> None:
    """What is not known is absent: without a finite step there is no global norm, while the layers say why."""
    epoch = epoch_of(
        [step_report(0, gradients=gradient_table((NAN, 2.0, 3.0), layers=LAYERS, num_nonfinite=(1, 0, 0)))]
    )

    assert epoch.global_norm == {}
    assert layers_of(epoch).num_nonfinite_steps.tolist() == [1, 0, 0]


def test_layers_are_matched_by_name() -> None:
    """Parameter groups may be added in mid-epoch: a layer has the statistics of the steps it was there."""
    before = [step_report(i, gradients=gradient_table((1.0, 2.0), layers=("body", "head"))) for i in range(3)]
    after = [step_report(i, gradients=gradient_table((9.0, 4.0, 3.0), layers=("stem", "head", "body"))) for i in (3, 4)]

    statistics = layers_of(epoch_of([*before, *after]))

    means = dict(zip(statistics.layers, statistics.mean.tolist(), strict=True))
    assert means == pytest.approx({"body": 9 / 5, "head": 14 / 5, "stem": 9.0})
    assert dict(zip(statistics.layers, statistics.num_steps.tolist(), strict=True)) == {"body": 5, "head": 5, "stem": 2}
    assert dict(zip(statistics.layers, statistics.p50.tolist(), strict=True)) == {"body": 1.0, "head": 2.0, "stem": 9.0}


def test_ever_new_layers_do_not_grow_without_bound() -> None:
    """An epoch keeps at most 255 layers, however often they change."""
    reports = [step_report(i, gradients=gradient_table((1.0,), layers=(f"layer{i}",))) for i in range(1_000)]

    epoch = epoch_of(reports)

    assert len(layers_of(epoch).layers) == 255
    assert epoch.num_reports == 1_000


def test_zero_ratio_is_the_mean_of_the_sampled_steps() -> None:
    """Only steps with a sample count, and of those only the layers that were sampled."""
    ratios = [(0.5, 0.1, NAN), None, (0.25, 0.3, NAN)]
    samples = [None if row is None else gradient_sample(3, 3, zero_ratio_G=np.array(row)) for row in ratios]
    reports = [
        step_report(i, gradients=gradient_table((1.0, 1.0, 1.0), layers=LAYERS, sample=sample))
        for i, sample in enumerate(samples)
    ]

    statistics = layers_of(epoch_of(reports))

    np.testing.assert_allclose(statistics.zero_ratio, [0.375, 0.2, NAN])
    assert statistics.num_sampled_steps == 2
