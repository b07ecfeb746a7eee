"""Laws of decoding: what was encoded comes back, what a log lacks has its default, what it has beyond is left out."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import numpy as np
import pytest
from tests.builders import (
    activity_report,
    epoch_report,
    event,
    gradient_sample,
    gradient_table,
    layer_statistics,
    run_info,
    step_report,
)

from loopscope.records import Anomaly, HealthReport, LayerState, NonfiniteOrigin, Record, SyncCount
from loopscope_exporters.decoding import Decoder
from loopscope_exporters.encoding import encode

NAN, INF = math.nan, math.inf
SYNC = SyncCount(kind="item", site="train.py:3", count=2, seconds=0.5)
ORIGIN = NonfiniteOrigin(what="input", operator="addmm", parameter="encoder.0.weight", rows=(1, 4))
HEALTH = HealthReport(
    run="run-1",
    agent="model",
    rank=1,
    time_unix_seconds=5.0,
    step=7,
    anomalies=(Anomaly(kind="dead_layer", severity="warning", optimizer=None, step=3, layers=("encoder",)),),
    layers={None: {"encoder": LayerState(state="dead", rule="dead_layer")}, "critic": {}},
)
BAD = gradient_table((1.0, NAN), num_nonfinite=(0, 3), global_norm=INF, sample=gradient_sample(2, 2))
RECORDS = (
    run_info(settings={"port": 0}),
    step_report(0),
    step_report(1, gradients=None, loss=NAN, origin=ORIGIN, syncs=(SYNC,), batch=3, memory_bytes=5),
    step_report(2, gradients=BAD, loss=-INF, pauses={"garbage_collection": 0.5}),
    epoch_report(),
    epoch_report(gradients=layer_statistics(("a", "b"))),
    event(value=INF, threshold=NAN, attributes={"rows": [1]}),
    activity_report(),
    HEALTH,
)


def _same(one: Any, other: Any) -> bool:
    if dataclasses.is_dataclass(one):
        names = (field.name for field in dataclasses.fields(one) if field.name != "events")
        return type(one) is type(other) and all(_same(getattr(one, name), getattr(other, name)) for name in names)
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and np.array_equal(one, other, equal_nan=one.dtype.kind == "f")
    if isinstance(one, float) and math.isnan(one):
        return isinstance(other, float) and math.isnan(other)
    return bool(one == other)


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_record_comes_back(record: Record) -> None:
    """Every field, NaN and infinity included."""
    decoded = Decoder().decode(json.loads(encode(record)))

    assert _same(record, decoded)


@pytest.mark.parametrize("kind", ["self", "something new"])
def test_unknown_types_are_left_out(kind: str) -> None:
    """What a later version writes is nothing to this one."""
    assert Decoder().decode({"version": 1, "type": kind}) is None


def test_new_fields_are_left_out_and_missing_ones_have_defaults() -> None:
    """Logs of versions before and after can be read."""
    entry = json.loads(encode(step_report(4, batch=9))) | {"unheard_of": 1}
    del entry["batch"], entry["pauses"], entry["origin"]

    decoded = Decoder().decode(entry)

    assert _same(decoded, step_report(4))


def test_table_without_names_is_none() -> None:
    """A log that begins in the middle has not told the names yet."""
    entry = json.loads(encode(step_report(4), has_names=False))

    decoded = Decoder().decode(entry)

    assert decoded is not None
    assert decoded.gradients is None


def test_lines_share_their_names() -> None:
    """A reader carries the same lists on: a hundred lines have one tuple."""
    entry = json.loads(encode(step_report(0)))
    decoder = Decoder()

    first, second = (decoder.decode(dict(entry)) for _ in range(2))

    assert first.gradients.names is second.gradients.names
    assert first.gradients.layer_index_P is second.gradients.layer_index_P
