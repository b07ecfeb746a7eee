"""The parts of a picture: glyphs, shares of the room, keys, figures, layers, lines."""

from __future__ import annotations

import math

import pytest
from tests.builders import (
    activity_report,
    epoch_report,
    gradient_sample,
    gradient_table,
    health_report,
    run_info,
    self_report,
    step_report,
)
from tests.top.states import state

from loopscope.records import LayerState
from loopscope.top import figures
from loopscope.top.epochs import epoch_rows
from loopscope.top.glyphs import ASCII, UNICODE
from loopscope.top.keyboard import keys
from loopscope.top.layers import layer_rows
from loopscope.top.lines import line_rows
from loopscope.top.room import Wish, allot


@pytest.mark.parametrize(
    ("points", "width", "line"),
    [
        ([1, 2, 3, 4, 5, 6, 7, 8], 8, "▁▂▃▄▅▆▇█"),
        ([1, 1, 8, 8], 2, "▁█"),
        ([1, 10, 100, 1000], 4, "▁▃▆█"),
        ([-5, 0, 5], 3, "▁▅█"),
        ([2, 2, 2], 3, "▅▅▅"),
        ([1, math.nan, math.inf, 2], 4, "▁ !█"),
        ([1, math.nan, math.inf, 2], 2, "▅!"),
        ([], 9, ""),
        ([1.0], 9, "▅"),
        ([1, 2], 0, ""),
    ],
)
def test_sparkline_draws_the_course(points: list[float], width: int, line: str) -> None:
    """From the lowest to the highest, means where there are many, logarithmic over more than a factor of 20."""
    assert UNICODE.sparkline(points, width) == line


def test_sparkline_from_zero_shows_steady_as_steady() -> None:
    """One per cent more or less is the same bar."""
    assert set(UNICODE.sparkline([100, 101, 100, 99.5], 4, is_from_zero=True)) == {"▇"}


@pytest.mark.parametrize("shares", [[0.1, 0.3, 0.5, 0.08, 0.02], [1, 0, 0, 0, 0], [0.2] * 5])
@pytest.mark.parametrize("width", [1, 7, 40])
def test_bar_of_shares_is_as_wide_as_it_shall_be(shares: list[float], width: int) -> None:
    """Each part within a character of its share."""
    parts = UNICODE.stack(shares, width)

    assert sum(map(len, parts)) == width
    assert all(abs(len(part) - width * share) <= 1 for part, share in zip(parts, shares, strict=True))


def test_text_without_unicode_is_ascii() -> None:
    """What has a plain form gets it, the rest is spelled out."""
    assert ASCII.text("12 µs · a…\x1b層") == "12 us | a~\\x1b\\u5c64"


@pytest.mark.parametrize(
    ("room", "lines"),
    [
        (0, [0, 0, 0]),
        (2, [2, 0, 0]),
        (4, [2, 0, 2]),
        (5, [2, 3, 0]),
        (7, [2, 3, 2]),
        (8, [3, 3, 2]),
        (11, [4, 5, 2]),
        (99, [4, 9, 2]),
    ],
)
def test_room_is_shared_out(room: int, lines: list[int]) -> None:
    """First come those named first with their least, then all grow in turns, none beyond what it has to say."""
    wishes = [Wish(least=2, most=4), Wish(least=3, most=9, weight=2), Wish(least=4, most=2)]

    assert list(allot(room, wishes)) == lines


@pytest.mark.parametrize(
    ("data", "names"),
    [
        (b"q", ["quit"]),
        (b"\x03", ["quit"]),
        (b"jk\x1b[A\x1bOB", ["down", "up", "up", "down"]),
        (b"\x1b[6~\x1b[5~ ", ["page down", "page up", "page down"]),
        (b"\x1b[1;5Ax\xff\x1b", []),
        (b"\x1b[200~q\x1b[201~", ["quit"]),
    ],
)
def test_keys_are_known(data: bytes, names: list[str]) -> None:
    """Those of others are passed over, their letters not taken for ours."""
    assert list(keys(data)) == names


def test_rates_are_of_the_latest_seconds() -> None:
    """Ten seconds of steps: those before were ten times as slow and do not count."""
    slow = [step_report(n, duration_seconds=1.0) for n in range(20)]
    fast = [step_report(n, duration_seconds=0.1) for n in range(20, 130)]
    known = state(run_info(), *slow, *fast)

    assert figures.progress(known) == ["epoch 0", "step 129", "10 steps/s", "320 samples/s"]
    assert known.history.recent().step_seconds == pytest.approx(0.1)


def test_shares_of_the_phases_are_of_the_whole() -> None:
    """In their order, as the steps have them."""
    known = state(run_info(), step_report(0), step_report(1))

    assert dict(figures.phases(known)) == pytest.approx(
        {"data_wait": 0.1, "forward": 0.3, "backward": 0.5, "optimizer": 0.08, "other": 0.02}
    )


def test_what_loopscope_itself_takes_is_told() -> None:
    """Its share, its faults, what it switched off and dropped."""
    assert figures.ourselves(state(run_info(), self_report())) == [
        "memory 1 MB",
        "overhead 0.8 %",
        "faults: gradients 1",
        "off: syncs",
        "3 reports dropped",
        "a sample every 10 steps",
    ]


def test_figures_have_their_extremes_beside_them() -> None:
    """Lowest loss, norm before clipping, first of several learning rates, longest step."""
    known = state(
        run_info(),
        step_report(0, loss=1.5, duration_seconds=2.0),
        step_report(1, loss=2.5, learning_rates=(0.1, 0.2), gradients=gradient_table(global_norm_pre_clip=99.0)),
    )

    assert [(figure.name, figure.value, figure.aside) for figure in figures.curves(known)] == [
        ("loss", "2.5", "lowest 1.5"),
        ("gradient norm", "11.18", "99 before clipping"),
        ("learning rate", "0.1", "of 2 groups the first"),
        ("step time", "1.05 s", "longest 2 s"),
    ]


def test_layers_stand_the_worst_first() -> None:
    """By state, else in the model's order; what is known of them in words."""
    layers = ("a", "b", "c", "d")
    norms = [1.0, math.nan, 3.0, 4.0]
    health = {
        None: {"c": LayerState(state="vanishing", rule="underflow"), "d": LayerState(state="dead", rule="dead_layer")}
    }
    known = state(
        run_info(layers=layers),
        step_report(gradients=gradient_table(norms, layers=layers, sample=gradient_sample(4, 4))),
        health_report(layers=health),
    )

    rows = [(row.name, row.state, row.rule, row.norm, row.update_ratio, row.zero_ratio) for row in layer_rows(known)]

    assert rows == [
        ("d", "dead", "dead_layer", "4", "0.004", "0.4 %"),
        ("c", "vanishing", "underflow", "3", "0.003", "0.3 %"),
        ("a", "healthy", "", "1", "0.001", "0.1 %"),
        ("b", "no gradient", "", "-", "0.002", "0.2 %"),
    ]


def test_epochs_are_told_the_latest_first() -> None:
    """Of the optimizer that is shown; windows only where there are no epochs."""
    window = epoch_report(0, kind="window", window=4, first_step=4_000, last_step=4_999, num_nonfinite_steps=2)
    steps = step_report()

    windows = epoch_rows(state(run_info(), steps, window, epoch_report(1, optimizer="other")))
    epochs = epoch_rows(state(run_info(), steps, epoch_report(0), window, epoch_report(1)))

    assert [(row.unit, row.name, row.steps, row.nonfinite) for row in windows] == [
        ("window", "4", "4,000 to 4,999", "2")
    ]
    assert [(row.unit, row.name, row.steps, row.loss, row.norm, row.took) for row in epochs] == [
        ("epoch", "1", "10 to 19", "1.25", "5", "1.5 s"),
        ("epoch", "0", "0 to 9", "1.25", "5", "1.5 s"),
    ]


def test_lines_of_every_kind_have_their_turn() -> None:
    """The most frequent of each, though one kind alone could fill the room; with the time that it cost."""
    counters = {
        "loopscope.device.syncs": {(f"train.py:{n}", "item"): 100.0 + n for n in range(9)},
        "loopscope.device.sync": {("train.py:8", "item"): 1.5},
        "loopscope.recompilations": {("f", "shape"): 2.0, ("g", "other"): 0.0},
    }

    rows = line_rows(state(run_info(settings={"sync_device": "cpu"}), activity_report(counters)), 3)

    assert [(row.what, row.where, row.why, row.times, row.blocked) for row in rows] == [
        ("would wait", "train.py:8", "item", "108 x", "1.5 s"),
        ("would wait", "train.py:7", "item", "107 x", ""),
        ("recompiled", "f", "shape", "2 x", ""),
    ]
