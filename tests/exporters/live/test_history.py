"""The history of one optimizer: bounded, and true to every step that went into it."""

from __future__ import annotations

import math
import weakref

import numpy as np
import pytest
from tests.builders import gradient_table, step_report

from loopscope.catalog import PHASES
from loopscope_exporters.live.history import MAX_NAMES, History
from loopscope_exporters.live.spans import MAX_SPANS

LAYERS = ("a", "b", "c")


def reports(num_steps: int, first: int = 0, seed: int = 0):
    """Steps with losses and norms of layers that are drawn at random; every seventh has no loss."""
    generator = np.random.default_rng(seed)
    losses, norms = generator.lognormal(size=num_steps), generator.lognormal(size=(num_steps, len(LAYERS)))
    return [
        step_report(
            first + index,
            loss=None if index % 7 == 3 else float(losses[index]),
            gradients=gradient_table(norms[index], layers=LAYERS),
        )
        for index in range(num_steps)
    ]


def history_of(steps, fold_every: int = 50) -> History:
    """A history that took these in."""
    history = History()
    for index, report in enumerate(steps):
        history.add(report)
        if index % fold_every == 0:
            history.fold()
    return history


@pytest.mark.parametrize("num_steps", [1, MAX_SPANS, MAX_SPANS + 1, 3_000])
@pytest.mark.parametrize("first", [0, 1_000_003])
def test_spans_hold_what_was_in_their_steps(num_steps: int, first: int) -> None:
    """Mean, low and high of a span are those of its steps' known values, sums are of all of its steps."""
    steps = reports(num_steps, first)
    whole = history_of(steps).since()

    assert whole is not None
    assert whole.num_spans <= MAX_SPANS
    assert (whole.origin, whole.first) == (first, 0)
    for span in range(whole.num_spans):
        inside = [each for each in steps if (each.step - first) // whole.width == span]
        losses = [each.loss for each in inside if each.loss is not None]
        assert whole.columns["num_steps"][span] == len(inside)
        assert whole.columns["samples"][span] == 32 * len(inside)
        assert whole.columns["phase_backward"][span] == pytest.approx(0.05 * len(inside))
        expected = [np.mean(losses), min(losses), max(losses)] if losses else [math.nan] * 3
        assert [whole.columns[f"loss_{part}"][span] for part in ("mean", "low", "high")] == pytest.approx(
            expected, nan_ok=True
        )
        norms = np.mean([each.gradients.layer_norms for each in inside], axis=0)
        assert whole.layer_norms_GS[:, span] == pytest.approx(norms)


def test_a_count_that_a_dropped_step_left_marks_its_layer() -> None:
    """A report that stands for a dropped step as well has finite norms, and counts of what that one had."""
    history = History()
    history.add(step_report(0, gradients=gradient_table([1.0, 2.0], layers=("a", "b"), num_nonfinite=[0, 3])))
    whole = history.since()

    assert whole is not None
    assert whole.layer_norms_GS.tolist() == [[1.0], [math.inf]]


def test_reports_of_large_models_are_not_kept() -> None:
    """They hold the norms of thousands of parameters: what waits for a fold does without them, and loses nothing."""
    history, layers = History(), tuple(f"layer{index}" for index in range(1_000))
    tables = [gradient_table(np.full(1_000, index + 1.0), layers=layers) for index in range(40)]
    norms = [weakref.ref(table.norms) for table in tables]
    for index in range(40):
        history.add(step_report(index, gradients=tables.pop(0)))
        assert sum(array() is not None for array in norms[: index + 1]) <= 5
    whole = history.since()

    assert whole is not None
    assert whole.layer_norms_GS[0].tolist() == [index + 1.0 for index in range(40)]


def test_long_runs_are_bounded_and_lose_no_step() -> None:
    """100,000 steps are in at most MAX_SPANS spans, which count every one of them."""
    history = History()
    for step in range(100_000):
        history.add(step_report(step))

    whole = history.since()

    assert whole is not None
    assert MAX_SPANS / 2 <= whole.num_spans <= MAX_SPANS
    assert whole.columns["num_steps"].sum() == 100_000
    assert whole.width == 256


def test_a_reader_that_asks_for_what_is_new_has_the_whole() -> None:
    """What was known, cut at the last span, and what came since make what a new reader gets; also when spans widen."""
    history, known, width, first = History(), {}, 0, 0
    for index, report in enumerate(reports(2_000)):
        history.add(report)
        if index % 37 == 0:
            part = history.since(width, first)
            assert part is not None
            assert part.first in {0, first}
            for name, values in part.columns.items():
                known[name] = np.concatenate([known.get(name, np.zeros(0))[: part.first], values])
            width, first = part.width, part.num_spans - 1

    part, whole = history.since(width, first), history.since()

    assert part is not None
    assert whole is not None
    assert part.first == first or part.width != width
    for name, values in part.columns.items():
        np.testing.assert_array_equal(np.concatenate([known[name][: part.first], values]), whole.columns[name])


@pytest.mark.parametrize("first", [10**6, 3])
def test_a_reader_that_knows_more_than_there_is_gets_what_there_is(first: int) -> None:
    """A number beyond the last span is no error: the answer is empty, and begins where the history ends."""
    part = history_of(reports(3)).since(1, first)

    assert part is not None
    assert (part.first, part.num_spans, len(part.columns["loss_mean"])) == (3, 3, 0)


def test_what_was_not_finite_is_marked_and_out_of_the_extremes() -> None:
    """A mean with a NaN or infinite step among its own is infinity; lows and highs are those of the other steps."""
    history = History()
    for step in range(2 * MAX_SPANS):
        bad = {10: math.nan, 12: math.inf}.get(step)
        table = (
            gradient_table([1.0, math.nan, 2.0], layers=LAYERS, num_nonfinite=[0, 5, 0]) if bad else gradient_table()
        )
        history.add(step_report(step, loss=float(step) if bad is None else bad, gradients=table))

    whole = history.since()

    assert whole is not None
    assert whole.width == 2
    assert np.flatnonzero(np.isinf(whole.columns["loss_mean"])).tolist() == [5, 6]
    assert [whole.columns[f"loss_{part}"][5] for part in ("low", "high")] == [11, 11]
    assert whole.layers == ("encoder", "head", *LAYERS)
    assert np.flatnonzero(np.isinf(whole.layer_norms_GS[3])).tolist() == [5, 6]
    assert whole.layer_norms_GS[2, 5] == 1.0


def test_what_is_not_known_is_not_a_number() -> None:
    """Steps without loss, gradients or duration leave NaN, never 0; a layer without a gradient likewise."""
    history = History()
    history.add(step_report(0, loss=None, duration_seconds=None, gradients=None, learning_rates=()))
    history.add(step_report(1, gradients=gradient_table([math.nan] * 4)))

    whole = history.since()

    assert whole is not None
    for name in ("loss", "norm", "duration", "learning_rate"):
        assert [math.isnan(whole.columns[f"{name}_{part}"][0]) for part in ("mean", "low", "high")] == [True] * 3
    assert math.isnan(whole.columns["norm_mean"][1])
    assert np.isnan(whole.layer_norms_GS).all()


def test_gaps_and_returns_keep_their_place() -> None:
    """Steps that were dropped leave spans without steps; a loop that goes back adds to the span that it was in."""
    whole = history_of([step_report(0), step_report(5), step_report(2), step_report(6)]).since()

    assert whole is not None
    assert whole.columns["num_steps"].tolist() == [1, 0, 0, 0, 0, 2, 1]


def test_a_jump_far_ahead_halves_as_often_as_it_takes() -> None:
    """A step number that leaps, as when a resumed run is found late, costs spans and not memory."""
    whole = history_of([step_report(0), step_report(10**9)]).since()

    assert whole is not None
    assert whole.num_spans <= MAX_SPANS
    assert whole.columns["num_steps"].sum() == 2


@pytest.mark.parametrize("other", ["head", "layer"])
def test_layers_that_change_are_bounded(other: str) -> None:
    """Of names that go on changing the first MAX_NAMES are kept, also where no later step has any of these."""
    history = History()
    for step in range(200):
        last = other if other == "head" else f"{other}.{step}.b"
        history.add(step_report(step, gradients=gradient_table(layers=(f"layer.{step}", last))))

    whole = history.since()

    assert whole is not None
    assert len(whole.layers) == MAX_NAMES
    assert whole.layer_norms_GS.shape == (MAX_NAMES, 200)
    assert (whole.layer_norms_GS[1] > 0).sum() == (200 if other == "head" else 1)
    assert whole.columns["num_steps"].sum() == 200


def test_before_the_first_step_there_is_none() -> None:
    """No step, no history."""
    assert History().since() is None


def test_every_phase_of_the_catalog_has_a_column() -> None:
    """Phases come from the catalog."""
    whole = history_of(reports(1)).since()

    assert whole is not None
    assert {f"phase_{phase}" for phase in PHASES} < set(whole.columns)
