"""A comparison names the first step and the first quantity in which two runs part, and what else differs."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.builders import activity_report, epoch_report, event, gradient_table, run_info, step_report
from tests.jsonl_logs import write
from tests.loops import batch, watch
from torch import nn

from loopscope.records import Record
from loopscope.report import Comparison, Log, compare, comparison_json, comparison_text
from loopscope.report.comparing.steps import relative_difference

NUM_STEPS = 8


def steps(change: Callable[[int], dict[str, Any]] = lambda _: {}) -> list[Record]:
    """Return the steps of a run, changed at will."""
    return [step_report(step, **change(step)) for step in range(NUM_STEPS)]


def compared(directory: Path, a: Sequence[Record], b: Sequence[Record], **options: Any) -> Comparison:
    """Write two logs and compare them."""
    for name, records in (("a", a), ("b", b)):
        write(directory / f"{name}.jsonl", *records)
    return compare(Log(directory / "a.jsonl"), Log(directory / "b.jsonl"), **options)


def first_gap(comparison: Comparison) -> tuple[int, str]:
    """Return the step and the quantity of the first difference of all."""
    gap = comparison.pairs[0].steps.gaps[0]
    return gap.step, gap.quantity


def norms_from(step: int, norms: Sequence[float]) -> Callable[[int], dict[str, Any]]:
    """Return a change of the gradients from a step on."""
    return lambda now: {"gradients": gradient_table(norms)} if now >= step else {}


def test_equal_logs_are_equal(tmp_path: Path) -> None:
    """A run compared with itself has no gap, NaN included."""
    bad = gradient_table([math.nan, 4.0, math.inf, 8.0], num_nonfinite=[1, 0, 1, 0])
    records = [run_info(), *steps(lambda step: {"loss": math.nan, "gradients": bad if step > 3 else None})]

    comparison = compared(tmp_path, records, records)

    assert comparison.is_equal
    assert comparison.pairs[0].steps.gaps == ()
    assert comparison.pairs[0].steps.num_common == NUM_STEPS


@pytest.mark.parametrize(
    ("change", "quantity"),
    [
        (lambda step: {"loss": 2.5000001} if step >= 5 else {}, "loss"),
        (lambda step: {"samples": 31, "loss": 1.0} if step >= 5 else {}, "samples in the batch"),
        (lambda step: {"learning_rates": (0.1, 0.2)} if step >= 5 else {}, "learning rate of group 1"),
        (lambda step: {"skipped": "manual"} if step >= 5 else {}, "step"),
        (lambda step: {"gradients": None} if step >= 5 else {}, "gradients"),
        (lambda step: {"loss": math.nan} if step >= 5 else {}, "loss"),
        (norms_from(5, (3.0, 4.0, 6.0, 8.0000001)), "gradient norm of head.3.weight"),
        # Backward runs from the last parameter to the first: what differs in the middle began at the last of them.
        (norms_from(5, (3.1, 4.1, 6.1, 8.0)), "gradient norm of head.2.weight"),
        (norms_from(5, (3.0, 4.0, 6.0, math.nan)), "gradient norm of head.3.weight"),
    ],
)
def test_first_difference_is_named(tmp_path: Path, change: Callable[[int], dict[str, Any]], quantity: str) -> None:
    """The step and, within it, the quantity that comes about first; the same from either side."""
    changed = [run_info(), *steps(change)]
    plain = [run_info(), *steps()]

    forth, back = compared(tmp_path, plain, changed), compared(tmp_path / "back", changed, plain)

    assert first_gap(forth) == first_gap(back) == (5, quantity)
    assert not forth.is_equal


def test_gap_widens_level_by_level(tmp_path: Path) -> None:
    """Each level has the first step at which it is exceeded, by the difference relative to the larger value."""
    losses = [1.0 * (1 + 10.0 ** (step - 9)) for step in range(NUM_STEPS)]  # apart by 1e-9, 1e-8, ...

    comparison = compared(tmp_path, steps(lambda _: {"loss": 1.0}), steps(lambda s: {"loss": losses[s]}), rtol=3e-5)

    gaps = {gap.level: gap.step for gap in comparison.pairs[0].steps.gaps}
    expected = {
        level: next(step for step, loss in enumerate(losses) if (loss - 1) / loss > level)
        for level in (0.0, 1e-6, 3e-5, 1e-4)
    }
    assert gaps == expected
    assert not comparison.is_equal


@pytest.mark.parametrize(("rtol", "is_equal"), [(0.0, False), (1e-8, False), (1e-6, True)])
def test_what_is_within_rtol_is_equal(tmp_path: Path, rtol: float, is_equal: bool) -> None:
    """Training counts as the same up to the relative tolerance."""
    comparison = compared(tmp_path, steps(), steps(lambda _: {"loss": 2.5 * (1 + 1e-7)}), rtol=rtol)

    assert comparison.is_equal == is_equal


@pytest.mark.parametrize(
    "other",
    [
        [*steps(), step_report(NUM_STEPS)],
        steps()[:-1],
        [*steps(), epoch_report(0)],
        [step_report(step, optimizer=name) for step in range(NUM_STEPS) for name in ("a", "b")],
        steps(lambda _: {"gradients": gradient_table(layers=("encoder", "tail"))}),
    ],
    ids=["longer", "shorter", "epochs", "optimizers", "parameters"],
)
def test_runs_of_different_shape_are_different(tmp_path: Path, other: Sequence[Record]) -> None:
    """More steps, epochs, optimizers or other parameters: training was not the same, whatever the tolerance."""
    assert not compared(tmp_path, steps(), other, rtol=0.5).is_equal


def test_time_settings_and_events_are_told_and_do_not_count(tmp_path: Path) -> None:
    """Two runs that trained the same are equal though one was slower, set up otherwise, and warned."""
    slow = {"duration_seconds": 0.4, "phases": {"data_wait": 0.3, "forward": 0.1}}
    a = [
        run_info(settings={"sync_interval": 1, "jsonl": "a"}),
        *steps(),
        activity_report({"loopscope.device.syncs": {}}),
    ]
    b = [
        run_info(settings={"sync_interval": 5, "jsonl": "b"}, versions={"torch": "2.11.0"}),
        *steps(lambda _: slow),
        event("input_bound", "warning", 3, layer=None),
        activity_report({"loopscope.device.syncs": {("a.py:1", "item"): 2.0 * NUM_STEPS}}),
    ]

    comparison = compared(tmp_path, a, b)

    assert comparison.is_equal
    assert [(row.name, row.a, row.b) for row in comparison.settings] == [("sync_interval", 1, 5)]
    assert ("torch", "2.13.0", "2.11.0") in [(row.name, row.a, row.b) for row in comparison.versions]
    assert {row.name: row.ratio for row in comparison.pairs[0].times}["step, median"] == pytest.approx(4.0)
    assert [(row.name, row.a, row.b) for row in comparison.syncs] == [("a.py:1 item", 0.0, 2.0)]
    assert comparison.events_only_b == ("warning: input_bound",)
    assert comparison.events_only_a == ()


def test_missing_steps_do_not_shift_the_others(tmp_path: Path) -> None:
    """Steps are matched by number: a report that was dropped in one run is counted, and compared with none."""
    a, b = steps(lambda s: {"loss": float(s)}), steps(lambda s: {"loss": float(s)})
    del b[3]
    b[3] = step_report(4, loss=4.0, num_steps=2)

    comparison = compared(tmp_path, a, b)

    assert comparison.is_equal
    assert (comparison.pairs[0].steps.num_only_a, comparison.pairs[0].steps.num_only_b) == (1, 0)


def test_latest_of_several_runs_counts(tmp_path: Path) -> None:
    """A log that was written to twice stands for its latest run."""
    again = [step_report(step, run="run-2", loss=9.0) for step in range(NUM_STEPS)]

    comparison = compared(tmp_path, [*steps(), *again], again)

    assert comparison.is_equal
    assert comparison.a.num_sessions_left_out == 1


def trained(path: Path, *, rate: float = 0.05, changed_at: int | None = None) -> None:
    """Log a real run of twelve steps; `changed_at` scales one weight of the second layer before that step."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 1))
    optimizer = torch.optim.SGD(model.parameters(), rate)
    with watch(model, optimizer, jsonl=str(path)):
        for step in range(12):
            if step == changed_at:
                model[2].weight.data[0, 0] *= 1.5
            optimizer.zero_grad()
            model(batch(step)).square().mean().backward()
            optimizer.step()


def test_real_runs_of_one_seed_are_equal_bit_for_bit(tmp_path: Path) -> None:
    """The same training twice is the same log."""
    trained(tmp_path / "a.jsonl")
    trained(tmp_path / "b.jsonl")

    assert compare(Log(tmp_path / "a.jsonl"), Log(tmp_path / "b.jsonl")).is_equal


@pytest.mark.parametrize(
    ("options", "expected"),
    [({"changed_at": 7}, (7, "loss")), ({"rate": 0.06}, (0, "learning rate of group 0"))],
)
def test_real_runs_part_where_they_were_changed(
    tmp_path: Path, options: dict[str, Any], expected: tuple[int, str]
) -> None:
    """A weight that was touched shows in that step's loss; another learning rate in itself, before any loss."""
    trained(tmp_path / "a.jsonl")
    trained(tmp_path / "b.jsonl", **options)

    assert first_gap(compare(Log(tmp_path / "a.jsonl"), Log(tmp_path / "b.jsonl"))) == expected


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [(1.0, 1.0, 0), (1.0, 2.0, 0.5), (-1.0, 1.0, 2), (0.0, 0.0, 0), (0.0, 1.0, 1), (math.nan, math.nan, 0),
     (math.nan, 1.0, math.inf), (math.inf, math.inf, 0), (math.inf, -math.inf, math.inf), (None, None, 0),
     (None, 1.0, math.inf), (None, math.nan, math.inf)],
)  # fmt: skip
def test_relative_difference(a: float | None, b: float | None, expected: float) -> None:
    """Over the larger magnitude; infinite where only one is known or finite."""
    assert relative_difference(a, b) == relative_difference(b, a) == expected


def test_json_is_json(tmp_path: Path) -> None:
    """Tools read everything that the text says, with texts for numbers that JSON does not have."""
    comparison = compared(tmp_path, steps(), steps(lambda s: {"loss": math.inf if s > 2 else 2.5}), rtol=0.1)

    found = json.loads(comparison_json(comparison))

    gap = found["optimizers"][0]["steps"]["gaps"][0]
    assert (found["is_equal"], found["rtol"]) == (False, 0.1)
    assert (gap["step"], gap["quantity"], gap["a"], gap["b"], gap["difference"]) == (
        3,
        "loss",
        2.5,
        "Infinity",
        "Infinity",
    )


def test_text_begins_with_the_verdict(tmp_path: Path) -> None:
    """Who reads the first lines knows whether, where and in what the runs differ."""
    norms = np.array([3.0, 4.0, 6.0, 8.0])
    changed = steps(lambda s: {"gradients": gradient_table(norms * (1 + 1e-5 * (s >= 4)))})

    text = comparison_text(compared(tmp_path, steps(), changed), width=120)

    assert "Training differs from step 4 on: first the gradient norm of head.3.weight." in text
    assert "gradient norm of head.3.weight (+3)  any difference" in text
