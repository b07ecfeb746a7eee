"""Laws of activations and hooks outside of the agent: logged in full, and exported by groups of modules."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest
from tests.activation_tables import activation_table
from tests.builders import run_info, step_report

from loopscope.records import ActivationTable, HookCount, HookSilence, StepReport
from loopscope_exporters.decoding import Decoder
from loopscope_exporters.encoding import encode
from loopscope_exporters.series import AgentSeries

TABLE = activation_table()
HOOKS = (
    HookCount(where="body", hook_kind="forward", site="train.py:3", function="hook", count=9, container="kept"),
    HookSilence(
        where="head",
        hook_kind="backward",
        site="train.py:5",
        function="hook",
        num_looks=3,
        is_trained=True,
        is_compiled=False,
    ),
)


def _decoded(report: StepReport) -> StepReport:
    decoded = Decoder().decode(json.loads(encode(report)))
    assert isinstance(decoded, StepReport)
    return decoded


def test_table_survives_the_log() -> None:
    """Column by column, what is not known as null."""
    table = _decoded(step_report(activations=TABLE)).activations

    assert table is not None
    for field in dataclasses.fields(ActivationTable):
        np.testing.assert_array_equal(getattr(table, field.name), getattr(TABLE, field.name))
    assert json.loads(encode(step_report(activations=TABLE)))["activations"]["dead_ratio"] == [0.5, 0.25, None]


def test_hooks_survive_the_log() -> None:
    """Both kinds of finding."""
    assert _decoded(step_report(hooks=HOOKS)).hooks == HOOKS


def test_series_are_means_over_groups() -> None:
    """Of units and of elements; what is not known of a group has no point. They stay until the next sample."""
    series = AgentSeries()
    for record in (run_info(), step_report(0, activations=TABLE), step_report(1)):
        series.add(record)
    points = {
        name.rpartition(".")[2]: {point.labels["activation"]: point.value for point in found}
        for name, found in series.collect().items()
        if name.startswith("loopscope.activation.")
    }

    assert points["dead_ratio"] == pytest.approx({"stem.act": (10 * 0.4 + 30 * 0.2) / 40})
    assert points["saturated_ratio"] == {"body.act": 0.75}
    squares = (320 * 0.0625 + 960 * 0.25) / 1280
    assert points["root_mean_square"] == pytest.approx({"stem.act": math.sqrt(squares), "body.act": 2.0})
