"""Laws of windows and of what ends an epoch: no step is lost, none is in two epochs, and windows take nothing away."""

from __future__ import annotations

import numpy as np
import pytest
from tests.aggregating import LAYERS, NAN, epoch_of, layers_of, random_norms, steps_of, windows_of
from tests.builders import gradient_table, step_report

from loopscope.epochs import MAX_EXACT_STEPS, EpochAggregator

# Shape legend: N steps, G layers.


def test_windows_are_reported_when_complete() -> None:
    """Every window_steps steps there is a window, numbered from 0, over its own steps alone."""
    norms_NG = random_norms(1_000)

    windows = windows_of(steps_of(norms_NG), 300)

    assert [(w.kind, w.window, w.first_step, w.last_step, w.num_steps) for w in windows] == [
        ("window", 0, 0, 299, 300),
        ("window", 1, 300, 599, 300),
        ("window", 2, 600, 899, 300),
    ]
    np.testing.assert_allclose(layers_of(windows[1]).mean, norms_NG[300:600].mean(axis=0))
    np.testing.assert_allclose(layers_of(windows[1]).p95, np.quantile(norms_NG[300:600], 0.95, axis=0))


def test_window_bears_the_time_and_the_epoch_of_its_last_step() -> None:
    """A window ends with a step and belongs to that step's epoch."""
    (window,) = windows_of([step_report(0, epoch=3), step_report(1, epoch=3, time_unix_seconds=55.0)], 2)

    assert (window.epoch, window.time_unix_seconds) == (3, 55.0)


@pytest.mark.parametrize("window_steps", [1, 7, 100, 256, 1_000])
def test_windows_take_nothing_from_the_epoch(window_steps: int) -> None:
    """An epoch with windows in it has the statistics of one without."""
    reports = steps_of(random_norms(600))

    with_windows, without = epoch_of(reports, window_steps), epoch_of(reports)

    np.testing.assert_allclose(layers_of(with_windows).mean, layers_of(without).mean, rtol=1e-12)
    np.testing.assert_array_equal(layers_of(with_windows).p95, layers_of(without).p95)
    assert (with_windows.num_steps, with_windows.loss) == (without.num_steps, without.loss)


def test_windows_leave_the_thinning_even() -> None:
    """However the steps were reduced, a long epoch keeps every 4th step from its first one on."""
    norms_NG = random_norms(2 * MAX_EXACT_STEPS + 1_000)

    epoch = epoch_of(steps_of(norms_NG), window_steps=997)

    np.testing.assert_allclose(layers_of(epoch).p95, np.quantile(norms_NG[::4], 0.95, axis=0))


def test_nonfinite_steps_count_once_in_window_and_epoch() -> None:
    """A non-finite step of the first window is in that one, not in the next, and once in the epoch."""
    bad = step_report(0, gradients=gradient_table((NAN, 1.0, 1.0), layers=LAYERS, num_nonfinite=(1, 0, 0)))
    reports = [bad, *steps_of(random_norms(4))[1:]]

    windows, epoch = windows_of(reports, 2), epoch_of(reports, 2)

    assert [layers_of(window).num_nonfinite_steps.tolist() for window in windows] == [[1, 0, 0], [0, 0, 0]]
    assert [window.num_nonfinite_steps for window in windows] == [1, 0]
    assert layers_of(epoch).num_nonfinite_steps.tolist() == [1, 0, 0]


def test_windows_count_dropped_steps() -> None:
    """A window is as many steps long as were taken, reported or dropped."""
    windows = windows_of([step_report(i * 4 + 3, num_steps=4) for i in range(6)], 8)

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
    norms_NG = random_norms(30)
    for report in steps_of(norms_NG[:10]):
        aggregator.add(report)
    aggregator.end_epoch(1.0, 0)
    for report in steps_of(norms_NG)[10:]:
        aggregator.add(report)

    epoch = aggregator.end_epoch(2.0, 1)

    assert epoch is not None
    assert (epoch.kind, epoch.epoch, epoch.window, epoch.time_unix_seconds) == ("epoch", 1, None, 2.0)
    assert (epoch.first_step, epoch.last_step, epoch.num_steps) == (10, 29, 20)
    np.testing.assert_allclose(layers_of(epoch).max, norms_NG[10:].max(axis=0))


def test_epoch_without_steps_is_none() -> None:
    """A mark without a step since the last one is no epoch."""
    aggregator = EpochAggregator(10)

    assert aggregator.end_epoch(1.0, 0) is None


@pytest.mark.parametrize("num_steps", [1, 99, 101, 250])
def test_end_of_the_run_loses_no_step(num_steps: int) -> None:
    """In a run without epochs the steps behind the last window are a window of their own."""
    aggregator = EpochAggregator(100)
    windows = [aggregator.add(report) for report in steps_of(random_norms(num_steps))]

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


def test_reports_do_not_change_afterwards() -> None:
    """A report is a record: steps that come later leave its arrays alone."""
    aggregator = EpochAggregator(2)
    reports = steps_of(random_norms(4))
    windows = [aggregator.add(report) for report in reports[:2]]
    assert windows[1] is not None
    mean, largest = layers_of(windows[1]).mean.copy(), layers_of(windows[1]).max.copy()

    aggregator.add(reports[2])
    aggregator.add(reports[3])

    np.testing.assert_array_equal(layers_of(windows[1]).mean, mean)
    np.testing.assert_array_equal(layers_of(windows[1]).max, largest)
