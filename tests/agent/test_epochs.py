"""Laws of epochs and windows: all steps are in, and the statistics are those that numpy finds in all of them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from tests.builders import gradient_sample, gradient_table, step_report

from loopscope.epochs import MAX_EXACT_STEPS, EpochAggregator
from loopscope.records import EpochReport, LayerStatistics, StepReport

# Shape legend: N steps, G layers.
LAYERS = ("stem", "body", "head")
NAN, INF = math.nan, math.inf


def _random_norms(num_steps: int, seed: int = 0) -> npt.NDArray[np.float64]:
    return np.random.default_rng(seed).lognormal(size=(num_steps, len(LAYERS)))


def _steps(norms_NG: npt.NDArray[np.float64], **changes: Any) -> list[StepReport]:
    """Return a step a row, one parameter a layer."""
    return [
        step_report(step, gradients=gradient_table(row, layers=LAYERS), **changes) for step, row in enumerate(norms_NG)
    ]


def _epoch(reports: list[StepReport], window_steps: int = 1_000_000) -> EpochReport:
    aggregator = EpochAggregator(window_steps)
    for report in reports:
        aggregator.add(report)
    epoch = aggregator.end_epoch(123.0, 7)
    assert epoch is not None
    return epoch


def _windows(reports: list[StepReport], window_steps: int) -> list[EpochReport]:
    aggregator = EpochAggregator(window_steps)
    return [window for report in reports if (window := aggregator.add(report)) is not None]


def _layers(report: EpochReport) -> LayerStatistics:
    assert report.gradients is not None
    return report.gradients


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
    norms_NG = _random_norms(num_steps)

    epoch = _epoch(_steps(norms_NG))

    np.testing.assert_allclose(getattr(_layers(epoch), statistic), reference(norms_NG, axis=0), rtol=1e-12)
    assert epoch.quantiles_are_exact
    assert epoch.global_norm[statistic] == pytest.approx(reference(np.linalg.norm(norms_NG, axis=1), axis=0))


@pytest.mark.parametrize(
    ("num_steps", "stride"),
    [(MAX_EXACT_STEPS + 1, 2), (2 * MAX_EXACT_STEPS, 2), (2 * MAX_EXACT_STEPS + 1, 4), (40_001, 8)],
)
def test_quantiles_of_long_epochs_are_taken_from_every_nth_step(num_steps: int, stride: int) -> None:
    """Beyond MAX_EXACT_STEPS the quantiles are those of every 2nd, 4th, ... step, and the report says so."""
    norms_NG = _random_norms(num_steps)

    epoch = _epoch(_steps(norms_NG))

    assert not epoch.quantiles_are_exact
    np.testing.assert_allclose(_layers(epoch).p95, np.quantile(norms_NG[::stride], 0.95, axis=0))


@pytest.mark.parametrize(("statistic", "reference"), [("mean", np.mean), ("max", np.max), ("min", np.min)])
def test_long_epochs_leave_no_step_out_of_the_other_statistics(statistic: str, reference: Any) -> None:
    """Mean and extremes are exact however long the epoch is."""
    norms_NG = _random_norms(20_000)

    statistics = _layers(_epoch(_steps(norms_NG)))

    np.testing.assert_allclose(getattr(statistics, statistic), reference(norms_NG, axis=0), rtol=1e-12)
    assert statistics.num_steps.tolist() == [20_000] * 3


@pytest.mark.parametrize("value", [NAN, INF])
def test_nonfinite_norms_are_counted_and_left_out(value: float) -> None:
    """A non-finite norm is in no statistic of its layer; the other layers of the step stay in theirs."""
    norms_NG = _random_norms(50)
    is_finite_N = np.arange(50) % 7 != 3
    reports = _steps(norms_NG)
    bad = [
        step_report(step, gradients=gradient_table((row[0], value, row[2]), layers=LAYERS, num_nonfinite=(0, 5, 0)))
        for step, row in enumerate(norms_NG)
    ]

    epoch = _epoch([good if is_finite_N[i] else bad[i] for i, good in enumerate(reports)])

    assert _layers(epoch).mean[1] == pytest.approx(norms_NG[is_finite_N, 1].mean())
    assert _layers(epoch).p95[1] == pytest.approx(np.quantile(norms_NG[is_finite_N, 1], 0.95))
    assert _layers(epoch).mean[0] == pytest.approx(norms_NG[:, 0].mean())
    assert _layers(epoch).num_steps.tolist() == [50, is_finite_N.sum(), 50]
    assert _layers(epoch).num_nonfinite_steps.tolist() == [0, (~is_finite_N).sum(), 0]
    assert epoch.num_nonfinite_steps == (~is_finite_N).sum()
    assert epoch.global_norm["mean"] == pytest.approx(np.linalg.norm(norms_NG[is_finite_N], axis=1).mean())


def test_absent_gradients_are_not_counted() -> None:
    """A layer without a gradient is neither a finite nor a non-finite step of its own."""
    absent = step_report(1, gradients=gradient_table((1.0, NAN, 3.0), layers=LAYERS))

    epoch = _epoch([*_steps(np.full((1, 3), 2.0)), absent])

    assert _layers(epoch).num_steps.tolist() == [2, 1, 2]
    assert _layers(epoch).num_nonfinite_steps.tolist() == [0, 0, 0]
    assert _layers(epoch).mean.tolist() == [1.5, 2.0, 2.5]
    assert epoch.num_nonfinite_steps == 0


@pytest.mark.parametrize("statistic", ["mean", "max", "min", "p50", "p95"])
def test_layer_that_never_had_a_gradient_is_unknown(statistic: str) -> None:
    """A statistic of nothing is NaN, not zero."""
    epoch = _epoch([step_report(0, gradients=gradient_table((1.0, NAN, 3.0), layers=LAYERS))])

    assert np.isnan(getattr(_layers(epoch), statistic)).tolist() == [False, True, False]


def test_counts_carried_from_dropped_steps_leave_the_norm_in() -> None:
    """Non-finite elements of a dropped step count, and the finite norm of the step that carries them is used."""
    carrier = step_report(
        3, num_steps=2, gradients=gradient_table((1.0, 2.0, 3.0), layers=LAYERS, num_nonfinite=(0, 4, 0))
    )

    epoch = _epoch([carrier])

    assert _layers(epoch).mean.tolist() == [1.0, 2.0, 3.0]
    assert _layers(epoch).num_nonfinite_steps.tolist() == [0, 1, 0]


def test_no_gradients_give_no_statistics() -> None:
    """An epoch that never saw a gradient has none, and no global norm."""
    epoch = _epoch([step_report(0, gradients=None)])

    assert epoch.gradients is None
    assert epoch.global_norm == {}


def test_epoch_of_nonfinite_steps_has_no_global_norm() -> None:
    """What is not known is absent: without a finite step there is no global norm, while the layers say why."""
    epoch = _epoch([step_report(0, gradients=gradient_table((NAN, 2.0, 3.0), layers=LAYERS, num_nonfinite=(1, 0, 0)))])

    assert epoch.global_norm == {}
    assert _layers(epoch).num_nonfinite_steps.tolist() == [1, 0, 0]


@pytest.mark.parametrize("reason", ["grad_scaler", "manual"])
def test_skipped_steps_count_as_skipped_only(reason: str) -> None:
    """A skipped step is in no norm and no loss; it counts as skipped and, with its gradients, as non-finite."""
    taken = _steps(np.full((4, 3), 2.0), loss=1.0)
    bad = gradient_table((INF, 2.0, 3.0), layers=LAYERS, num_nonfinite=(1, 0, 0))

    epoch = _epoch([*taken[:2], step_report(2, skipped=reason, loss=50.0, gradients=bad), *taken[2:]])

    assert (epoch.num_steps, epoch.num_reports, epoch.num_skipped) == (4, 4, {reason: 1})
    assert (epoch.first_step, epoch.last_step) == (0, 3)
    assert epoch.num_nonfinite_steps == 1
    assert _layers(epoch).num_nonfinite_steps.tolist() == [0, 0, 0]
    assert _layers(epoch).mean.tolist() == [2.0, 2.0, 2.0]
    assert epoch.loss == 1.0


def test_epoch_of_skipped_steps_is_reported() -> None:
    """Where every step was skipped the epoch says so, with the number that they would have had."""
    epoch = _epoch([step_report(9, skipped="grad_scaler"), step_report(9, skipped="grad_scaler")])

    assert (epoch.num_steps, epoch.num_skipped, epoch.loss) == (0, {"grad_scaler": 2}, None)
    assert (epoch.first_step, epoch.last_step) == (9, 9)


def test_skipped_step_at_the_end_does_not_reach_into_the_next_epoch() -> None:
    """The number of a skipped step belongs to the next step, so it is not the last one of the epoch."""
    epoch = _epoch([step_report(4), step_report(5), step_report(6, skipped="manual")])

    assert (epoch.first_step, epoch.last_step) == (4, 5)


def test_dropped_reports_count_as_steps() -> None:
    """A report stands for the steps dropped before it: in num_steps, not in num_reports."""
    epoch = _epoch([step_report(2, num_steps=3), step_report(3), step_report(9, num_steps=6)])

    assert (epoch.num_steps, epoch.num_reports) == (10, 3)
    assert (epoch.first_step, epoch.last_step) == (0, 9)


def test_counts_are_sums() -> None:
    """Micro-steps, samples and durations add up; a duration that is not known is left out."""
    reports = [
        step_report(0, num_micro_steps=4, num_samples=128, duration_seconds=None),
        step_report(1, num_micro_steps=4, num_samples=100, duration_seconds=0.25),
        step_report(2, num_micro_steps=2, num_samples=0, duration_seconds=0.5),
    ]

    epoch = _epoch(reports)

    assert (epoch.num_micro_steps, epoch.num_samples, epoch.duration_seconds) == (10, 228, 0.75)


def test_unknown_samples_are_absent() -> None:
    """Where no report knows its samples the number is not known, rather than 0."""
    assert _epoch([step_report(0, samples=None, num_samples=0)]).num_samples is None


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

    epoch = _epoch(reports)

    assert (epoch.loss, epoch.loss_weighting) == (mean, weighting)
    assert epoch.num_nonfinite_losses == sum(loss is not None and not math.isfinite(loss) for loss in losses)


def test_loss_is_over_all_steps() -> None:
    """The mean loss of an epoch is numpy's over every step, in float64."""
    losses = np.random.default_rng(1).lognormal(size=20_000)
    samples = np.random.default_rng(2).integers(1, 64, size=20_000)

    epoch = _epoch(
        [
            step_report(i, loss=loss, samples=n, gradients=None)
            for i, (loss, n) in enumerate(zip(losses, samples.tolist(), strict=True))
        ]
    )

    assert epoch.loss == pytest.approx(np.average(losses, weights=samples), rel=1e-12)


def test_layers_are_matched_by_name() -> None:
    """Parameter groups may be added in mid-epoch: a layer has the statistics of the steps it was there."""
    before = [step_report(i, gradients=gradient_table((1.0, 2.0), layers=("body", "head"))) for i in range(3)]
    after = [step_report(i, gradients=gradient_table((9.0, 4.0, 3.0), layers=("stem", "head", "body"))) for i in (3, 4)]

    statistics = _layers(_epoch([*before, *after]))

    means = dict(zip(statistics.layers, statistics.mean.tolist(), strict=True))
    assert means == pytest.approx({"body": 9 / 5, "head": 14 / 5, "stem": 9.0})
    assert dict(zip(statistics.layers, statistics.num_steps.tolist(), strict=True)) == {"body": 5, "head": 5, "stem": 2}
    assert dict(zip(statistics.layers, statistics.p50.tolist(), strict=True)) == {"body": 1.0, "head": 2.0, "stem": 9.0}


def test_ever_new_layers_do_not_grow_without_bound() -> None:
    """An epoch keeps at most 255 layers, however often they change."""
    reports = [step_report(i, gradients=gradient_table((1.0,), layers=(f"layer{i}",))) for i in range(1_000)]

    epoch = _epoch(reports)

    assert len(_layers(epoch).layers) == 255
    assert epoch.num_reports == 1_000


def test_zero_ratio_is_the_mean_of_the_sampled_steps() -> None:
    """Only steps with a sample count, and of those only the layers that were sampled."""
    ratios = [(0.5, 0.1, NAN), None, (0.25, 0.3, NAN)]
    samples = [None if row is None else gradient_sample(3, 3, zero_ratio_G=np.array(row)) for row in ratios]
    reports = [
        step_report(i, gradients=gradient_table((1.0, 1.0, 1.0), layers=LAYERS, sample=sample))
        for i, sample in enumerate(samples)
    ]

    statistics = _layers(_epoch(reports))

    np.testing.assert_allclose(statistics.zero_ratio, [0.375, 0.2, NAN])
    assert statistics.num_sampled_steps == 2


def test_windows_are_reported_when_complete() -> None:
    """Every window_steps steps there is a window, numbered from 0, over its own steps alone."""
    norms_NG = _random_norms(1_000)

    windows = _windows(_steps(norms_NG), 300)

    assert [(w.kind, w.window, w.first_step, w.last_step, w.num_steps) for w in windows] == [
        ("window", 0, 0, 299, 300),
        ("window", 1, 300, 599, 300),
        ("window", 2, 600, 899, 300),
    ]
    np.testing.assert_allclose(_layers(windows[1]).mean, norms_NG[300:600].mean(axis=0))
    np.testing.assert_allclose(_layers(windows[1]).p95, np.quantile(norms_NG[300:600], 0.95, axis=0))


def test_window_bears_the_time_and_the_epoch_of_its_last_step() -> None:
    """A window ends with a step and belongs to that step's epoch."""
    (window,) = _windows([step_report(0, epoch=3), step_report(1, epoch=3, time_unix_seconds=55.0)], 2)

    assert (window.epoch, window.time_unix_seconds) == (3, 55.0)


@pytest.mark.parametrize("window_steps", [1, 7, 100, 256, 1_000])
def test_windows_take_nothing_from_the_epoch(window_steps: int) -> None:
    """An epoch with windows in it has the statistics of one without."""
    reports = _steps(_random_norms(600))

    with_windows, without = _epoch(reports, window_steps), _epoch(reports)

    np.testing.assert_allclose(_layers(with_windows).mean, _layers(without).mean, rtol=1e-12)
    np.testing.assert_array_equal(_layers(with_windows).p95, _layers(without).p95)
    assert (with_windows.num_steps, with_windows.loss) == (without.num_steps, without.loss)


def test_windows_leave_the_thinning_even() -> None:
    """However the steps were reduced, a long epoch keeps every 4th step from its first one on."""
    norms_NG = _random_norms(2 * MAX_EXACT_STEPS + 1_000)

    epoch = _epoch(_steps(norms_NG), window_steps=997)

    np.testing.assert_allclose(_layers(epoch).p95, np.quantile(norms_NG[::4], 0.95, axis=0))


def test_nonfinite_steps_count_once_in_window_and_epoch() -> None:
    """A non-finite step of the first window is in that one, not in the next, and once in the epoch."""
    bad = step_report(0, gradients=gradient_table((NAN, 1.0, 1.0), layers=LAYERS, num_nonfinite=(1, 0, 0)))
    reports = [bad, *_steps(_random_norms(4))[1:]]

    windows, epoch = _windows(reports, 2), _epoch(reports, 2)

    assert [_layers(window).num_nonfinite_steps.tolist() for window in windows] == [[1, 0, 0], [0, 0, 0]]
    assert [window.num_nonfinite_steps for window in windows] == [1, 0]
    assert _layers(epoch).num_nonfinite_steps.tolist() == [1, 0, 0]


def test_windows_count_dropped_steps() -> None:
    """A window is as many steps long as were taken, reported or dropped."""
    windows = _windows([step_report(i * 4 + 3, num_steps=4) for i in range(6)], 8)

    assert [(w.first_step, w.last_step, w.num_steps) for w in windows] == [(0, 7, 8), (8, 15, 8), (16, 23, 8)]


def test_window_numbers_restart_with_each_epoch() -> None:
    """The first window of an epoch is window 0, and has only steps of that epoch."""
    aggregator = EpochAggregator(4)
    reports = [aggregator.add(step_report(i)) for i in range(6)]
    aggregator.end_epoch(1.0, 0)
    reports += [aggregator.add(step_report(i, epoch=1)) for i in range(6, 12)]

    windows = [report for report in reports if report is not None]

    assert [(w.epoch, w.window, w.first_step, w.last_step) for w in windows] == [(0, 0, 0, 3), (1, 0, 6, 9)]


def test_epochs_follow_each_other_without_overlap() -> None:
    """An epoch starts where the last one ended, with nothing of it."""
    aggregator = EpochAggregator(1_000)
    norms_NG = _random_norms(30)
    for report in _steps(norms_NG[:10]):
        aggregator.add(report)
    aggregator.end_epoch(1.0, 0)
    for report in _steps(norms_NG)[10:]:
        aggregator.add(report)

    epoch = aggregator.end_epoch(2.0, 1)

    assert epoch is not None
    assert (epoch.kind, epoch.epoch, epoch.window, epoch.time_unix_seconds) == ("epoch", 1, None, 2.0)
    assert (epoch.first_step, epoch.last_step, epoch.num_steps) == (10, 29, 20)
    np.testing.assert_allclose(_layers(epoch).max, norms_NG[10:].max(axis=0))


def test_epoch_without_steps_is_none() -> None:
    """A mark without a step since the last one is no epoch."""
    aggregator = EpochAggregator(10)

    assert aggregator.end_epoch(1.0, 0) is None


@pytest.mark.parametrize("num_steps", [1, 99, 101, 250])
def test_end_of_the_run_loses_no_step(num_steps: int) -> None:
    """In a run without epochs the steps behind the last window are a window of their own."""
    aggregator = EpochAggregator(100)
    windows = [aggregator.add(report) for report in _steps(_random_norms(num_steps))]

    last = aggregator.end_run(9.0)

    assert last is not None
    assert (last.kind, last.time_unix_seconds) == ("window", 9.0)
    assert sum(window.num_steps for window in [*windows, last] if window is not None) == num_steps


def test_steps_behind_the_last_epoch_are_not_lost() -> None:
    """A run with epochs that goes on without a loader ends with a window of those steps."""
    aggregator = EpochAggregator(100)
    aggregator.add(step_report(0))
    aggregator.end_epoch(1.0, 0)
    aggregator.add(step_report(1, epoch=1))

    last = aggregator.end_run(2.0)

    assert last is not None
    assert (last.kind, last.epoch, last.window, last.first_step) == ("window", 1, 0, 1)


def test_end_of_the_run_is_silent_where_all_is_reported() -> None:
    """There is no window after an epoch that took in all steps, nor a second one at a second end."""
    aggregator = EpochAggregator(100)
    aggregator.add(step_report(0))
    aggregator.end_epoch(1.0, 0)

    assert aggregator.end_run(2.0) is None
    assert aggregator.end_run(3.0) is None


def test_report_says_whose_it_is() -> None:
    """Run, agent, rank and optimizer are those of the steps."""
    epoch = _epoch([step_report(0, run="r", agent="a", rank=3, optimizer="critic")])

    assert (epoch.run, epoch.agent, epoch.rank, epoch.optimizer) == ("r", "a", 3, "critic")


def test_reports_do_not_change_afterwards() -> None:
    """A report is a record: steps that come later leave its arrays alone."""
    aggregator = EpochAggregator(2)
    reports = _steps(_random_norms(4))
    windows = [aggregator.add(report) for report in reports[:2]]
    assert windows[1] is not None
    mean, largest = _layers(windows[1]).mean.copy(), _layers(windows[1]).max.copy()

    aggregator.add(reports[2])
    aggregator.add(reports[3])

    np.testing.assert_array_equal(_layers(windows[1]).mean, mean)
    np.testing.assert_array_equal(_layers(windows[1]).max, largest)
