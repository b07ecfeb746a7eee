"""Tables of epochs and layers: every layer a column or a row, what is not known a dash."""

from __future__ import annotations

import numpy as np
import pytest
from tests.builders import epoch_report, layer_statistics

from loopscope.cli.tables import epoch_table, layer_table


def cells(table: str) -> list[list[str]]:
    """Return the rows without the rule below the header; no cell holds two spaces."""
    header, _, *rows = table.splitlines()
    return [line.split() for line in (header.replace(" norm", "-norm"), *rows)]


def test_epoch_row_has_the_mean_of_every_layer() -> None:
    """An epoch's row: number, steps, loss, global norm, the layers' means, non-finite steps."""
    header, row = cells(epoch_table([epoch_report(3, num_nonfinite_steps=2)]))

    assert header == ["epoch", "steps", "loss", "global", *layer_statistics().layers, "non-finite"]
    assert row == ["3", "10", "1.25", "5", *(f"{mean:.4g}" for mean in layer_statistics().mean), "2"]


def test_window_is_numbered_within_its_epoch() -> None:
    """A window has the epoch's number and its own."""
    assert cells(epoch_table([epoch_report(1, kind="window", window=4)]))[1][0] == "1.4"


def test_layer_row_is_over_all_epochs() -> None:
    """A layer's mean is weighted by steps, its extremes are those of any epoch, its bad steps are summed."""
    first = epoch_report(0, gradients=_one(mean=1.0, low=0.5, high=2.0, num_steps=30, num_bad=1))
    second = epoch_report(1, gradients=_one(mean=5.0, low=4.0, high=9.0, num_steps=10, num_bad=2))

    assert cells(layer_table([first, second]))[1] == ["encoder", "2", "0.5", "9", "1", "3", "25.0%"]


@pytest.mark.parametrize("table", [epoch_table, layer_table])
def test_what_is_not_known_is_a_dash(table: object) -> None:
    """A layer that never had a gradient has no numbers, and is there."""
    nan = float("nan")
    report = epoch_report(0, loss=None, global_norm={}, gradients=_one(mean=nan, low=nan, high=nan, num_steps=0))

    text = table([report])  # type: ignore[operator] # one of two functions

    assert "nan" not in text
    assert "encoder" in text
    assert " -" in text


def test_layers_of_one_epoch_only_are_dashes_in_the_others() -> None:
    """A layer that came later has a column, empty before."""
    reports = [epoch_report(0), epoch_report(1, gradients=layer_statistics(["decoder"]))]

    _, first, second = cells(epoch_table(reports))

    assert first[-2] == "-"
    assert second[-2] == "5"


def _one(*, mean: float, low: float, high: float, num_steps: int, num_bad: int = 0) -> object:
    return layer_statistics(
        ["encoder"],
        mean=np.array([mean]),
        min=np.array([low]),
        max=np.array([high]),
        num_steps=np.array([num_steps]),
        num_nonfinite_steps=np.array([num_bad]),
        zero_ratio=np.array([0.25]),
    )
