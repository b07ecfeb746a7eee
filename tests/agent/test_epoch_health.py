"""Laws of health over epochs: each layer has its worst state, the rule that decided it, and a trend."""

from __future__ import annotations

import numpy as np
import pytest
from tests.builders import gradient_table, layer_statistics, step_report
from tests.loops import network, samples, watch
from torch.optim import SGD
from torch.utils.data import DataLoader

from loopscope.epochs import EpochAggregator
from loopscope.epochs.states import trend
from loopscope.records import LayerState

DEAD = LayerState(state="dead", rule="dead_layer")
SPIKED = LayerState(state="unstable", rule="gradient_spike")
NONFINITE = LayerState(state="nonfinite", rule="nonfinite_gradient")


def epoch(aggregator: EpochAggregator, number: int, *states: dict[str, LayerState], norms=(3.0, 6.0)):
    """Take in a step for each of the states, and end the epoch."""
    table = gradient_table(norms)
    for index, each in enumerate(states):
        aggregator.add(step_report(10 * number + index, epoch=number, gradients=table), each)
    report = aggregator.end_epoch(0.0, number)
    assert report is not None
    return report.gradients


def test_a_layer_is_as_bad_as_its_worst_step():
    """The worst state of an epoch stays, and the next epoch begins anew."""
    aggregator = EpochAggregator(1_000)
    first = epoch(aggregator, 0, {}, {"head": SPIKED}, {"head": DEAD, "encoder": SPIKED}, {"head": SPIKED}, {})
    second = epoch(aggregator, 1, {}, {})

    assert (first.health, first.health_rule) == (("unstable", "dead"), ("gradient_spike", "dead_layer"))
    assert (second.health, second.health_rule) == (("healthy", "healthy"), ("", ""))


def test_a_layer_without_gradients_has_no_state_unless_it_is_ill():
    """What is unknown is empty; a layer that lost its gradient by being NaN is not unknown."""
    aggregator = EpochAggregator(1_000)
    nothing = epoch(aggregator, 0, {}, {}, norms=(np.nan, 6.0))
    ill = epoch(aggregator, 1, {"encoder": NONFINITE}, norms=(np.nan, 6.0))

    assert nothing.health == ("", "healthy")
    assert (ill.health, ill.health_rule) == (("nonfinite", "healthy"), ("nonfinite_gradient", ""))


def test_the_trend_is_against_the_epoch_before():
    """The mean norm of each layer over that of the epoch before; the first epoch has none."""
    aggregator = EpochAggregator(1_000)
    trends = [epoch(aggregator, number, {}, norms=norms).trend for number, norms in enumerate([(2, 4), (1, 8), (3, 8)])]

    assert np.isnan(trends[0]).all()
    assert [each.tolist() for each in trends[1:]] == [[0.5, 2.0], [3.0, 1.0]]


def test_an_epoch_without_gradients_is_passed_over():
    """The trend is against the latest epoch that had gradients."""
    aggregator = EpochAggregator(1_000)
    epoch(aggregator, 0, {}, norms=(2.0, 4.0))
    aggregator.add(step_report(10, gradients=None))
    assert aggregator.end_epoch(0.0, 1).gradients is None

    assert epoch(aggregator, 2, {}, norms=(1.0, 4.0)).trend.tolist() == [0.5, 1.0]


def test_windows_have_a_trend_of_their_own():
    """Windows are compared with windows, epochs with epochs."""
    aggregator = EpochAggregator(2)
    windows = [
        report.gradients
        for step, norm in enumerate([1.0, 1.0, 2.0, 2.0, 8.0, 8.0])
        if (report := aggregator.add(step_report(step, gradients=gradient_table((norm, norm))), {"head": DEAD}))
    ]
    whole = aggregator.end_epoch(0.0, 0).gradients

    assert [each.trend.tolist() for each in windows[1:]] == [[2.0, 2.0], [4.0, 4.0]]
    assert windows[0].health == whole.health == ("healthy", "dead")
    assert np.isnan(whole.trend).all()


@pytest.mark.parametrize(
    ("now", "before", "expected"),
    [
        (6.0, 3.0, 2.0),
        (0.0, 3.0, 0.0),
        (3.0, 0.0, None),
        (np.nan, 3.0, None),
        (3.0, np.nan, None),
        (1e300, 1e-300, np.inf),
    ],
)
def test_a_trend_is_unknown_where_there_is_nothing_to_compare_with(now, before, expected):
    """Zero and unknown means have no ratio, and no ratio is a warning."""
    layers = ("a",)
    (ratio,) = trend(
        layer_statistics(layers, mean=np.array([now])), layer_statistics(layers, mean=np.array([before]))
    ).tolist()

    assert np.isnan(ratio) if expected is None else ratio == expected


def test_layers_are_compared_by_name():
    """A layer that was replaced by another has no trend, in whatever order they are."""
    before = layer_statistics(("a", "b"), mean=np.array([2.0, 4.0]))

    assert np.array_equal(
        trend(layer_statistics(("b", "c"), mean=np.array([8.0, 1.0])), before), [2.0, np.nan], equal_nan=True
    )


def test_epochs_of_a_live_loop_have_health_and_trend():
    """A layer that is cut off in the second epoch is dead from there on, and the others are healthy."""
    model = network()
    optimizer, data = SGD(model.parameters(), 1e-4), samples(160)
    with watch(model, optimizer, overhead_budget=1.0) as watched:
        for number in range(3):
            for inputs in DataLoader(data, batch_size=2):
                hidden = model[0](inputs)
                model[2](model[1](hidden if number == 0 else hidden.detach())).square().mean().backward()
                optimizer.step()
                optimizer.zero_grad()
        watched.agent.flush()
        first, second, third = (report.gradients for report in watched.agent.epochs)

    assert (first.layers, first.health) == (("0", "2"), ("healthy", "healthy"))
    assert second.health == third.health == ("dead", "healthy")
    assert second.health_rule == third.health_rule == ("dead_layer", "")
    assert np.isnan(first.trend).all()
    assert second.trend[1] == pytest.approx(second.mean[1] / first.mean[1])
