"""Laws of decoding: what was encoded comes back, what a log lacks has its default, what it has beyond is left out."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator, Mapping
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import numpy as np
import pytest
from tests.activation_tables import activation_table
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

from loopscope.records import (
    NUM_EXPONENT_BINS,
    Anomaly,
    HealthReport,
    HookCount,
    LayerState,
    NonfiniteOrigin,
    Record,
    StepReport,
    SyncCount,
)
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


def test_fields_that_were_missing_may_be_there_later() -> None:
    """One decoder reads a log to which two versions have appended."""
    entry = json.loads(encode(step_report(4, batch=9)))
    older = {name: value for name, value in entry.items() if name not in {"batch", "memory_bytes", "logged"}}
    decoder = Decoder()

    batches = [decoder.decode(dict(each)).batch for each in (entry, older, entry, older)]

    assert batches == [9, None, 9, None]


def test_numbers_that_json_does_not_have_come_back_wherever_they_stand() -> None:
    """In what was logged, in phases and in rates; also where only some lines have them."""
    report = step_report(1, logged={"a": NAN, "b": INF, "c": 1}, phases={"other": -INF}, learning_rates=(NAN, 0.5))
    decoder = Decoder()

    decoded = [decoder.decode(json.loads(encode(each))) for each in (step_report(0), report, step_report(0))]

    assert _same(dict(decoded[1].logged), {"a": NAN, "b": INF, "c": 1})
    assert math.isnan(decoded[1].logged["a"])
    assert (decoded[1].logged["b"], decoded[1].phases["other"]) == (INF, -INF)
    assert math.isnan(decoded[1].learning_rates[0])
    assert _same(decoded[0], decoded[2])


RICH = step_report(
    3,
    gradients=gradient_table((1.0, 2.0), layers=("a", "b"), sample=gradient_sample(2, 2)),
    syncs=(SYNC,),
    origin=ORIGIN,
    activations=activation_table(),
    hooks=(HookCount(where="a", hook_kind="forward", site="train.py:3", function="hook", count=2),),
    pauses={"garbage_collection": 0.5},
    logged={"accuracy": 0.5},
    num_skipped={"grad_scaler": 1},
)
OTHERS = ([1], [[1.0]], {"a": "b"}, {"a": None}, "text", True, None, 1.5, ["NaN", None])


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield where something else could stand: every key, and the first element of every list."""
    if path:
        yield path
    if isinstance(value, dict):
        for key, each in value.items():
            yield from _places(each, (*path, key))
    elif isinstance(value, list) and value:
        yield from _places(value[0], (*path, 0))


def _replaced(value: Any, path: tuple[Any, ...], other: Any) -> Any:
    if not path:
        return other
    if isinstance(value, dict):
        return {key: _replaced(each, path[1:], other) if key == path[0] else each for key, each in value.items()}
    return [_replaced(each, path[1:], other) if place == path[0] else each for place, each in enumerate(value)]


def _conforms(value: Any, hint: Any) -> bool:
    """Whether a value is what an annotation says."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in {Union, UnionType}:
        return any(_conforms(value, each) for each in arguments)
    if origin is tuple:
        return isinstance(value, tuple) and all(_conforms(each, arguments[0]) for each in value)
    if origin is Mapping:
        return isinstance(value, Mapping) and all(_conforms(each, arguments[1]) for each in value.values())
    if origin is np.ndarray:
        return isinstance(value, np.ndarray) and value.dtype == get_args(arguments[1])[0]
    if dataclasses.is_dataclass(hint):
        hints = get_type_hints(hint)
        return isinstance(value, hint) and all(_conforms(getattr(value, name), each) for name, each in hints.items())
    kinds = {float: (int, float)}.get(hint, hint)
    return isinstance(value, kinds) and (hint in {bool, object} or not isinstance(value, bool))


def _sizes_agree(report: StepReport) -> bool:
    """Whether the columns of a table have a row a parameter and a row a layer, and its places are in it."""
    table = report.gradients
    if table is None:
        return True
    columns = {"P": len(table.names), "G": len(table.layers)}
    shapes = [(table.layer_index_P, "P"), (table.norms, "P"), (table.num_nonfinite, "P"), (table.layer_norms, "G")]
    if table.sample is not None:
        each = dataclasses.fields(table.sample)
        shapes += [(getattr(table.sample, field.name), field.name.rpartition("_")[2][:1]) for field in each]
    sizes = all(len(column) == columns[shape] for column, shape in shapes if shape in columns)
    places = [*table.layer_index_P.tolist(), *table.frozen]
    is_wide = table.sample is None or table.sample.histogram_GB.shape == (columns["G"], NUM_EXPONENT_BINS)
    return sizes and is_wide and all(0 <= place < 2 for place in places)


@pytest.mark.parametrize("record", [RICH, *RECORDS], ids=lambda record: type(record).__name__)
def test_what_is_no_record_is_refused(record: Record) -> None:
    """Whatever stands anywhere in a line: it is refused by a documented error, or it is what the record says."""
    entry, num_refused = json.loads(encode(record)), 0
    assert _conforms(record, type(record))
    decoder = Decoder()
    for path in _places(entry):
        for other in OTHERS:
            try:
                decoded = decoder.decode(_replaced(entry, path, other))
            except (ArithmeticError, AttributeError, KeyError, TypeError, ValueError):
                num_refused += 1
                continue
            if decoded is not None:
                assert _conforms(decoded, type(record)), (path, other)
                assert not isinstance(decoded, StepReport) or _sizes_agree(decoded), (path, other)
    assert num_refused > 40
    assert _same(decoder.decode(entry), record)


def test_names_of_lines_that_are_gone_are_not_taken_for_others() -> None:
    """Each line has lists of its own, whose places in memory are those of the lines before."""
    decoder = Decoder()
    for number in range(300):
        table = gradient_table((1.0, 2.0), layers=(f"a{number}", f"b{number}"), frozen=(number % 2,))
        decoded = decoder.decode(json.loads(encode(step_report(number, gradients=table))))
        assert _same(decoded.gradients, table)
    assert len(decoder._kept) <= 16


def test_lines_that_lack_different_fields_are_read() -> None:
    """More kinds of lines than are kept in mind, over and over."""
    entry = json.loads(encode(RICH))
    optional = [
        "batch",
        "pauses",
        "logged",
        "num_skipped",
        "memory_bytes",
        "num_tokens",
        "num_samples",
        "grad_scale",
        "hooks",
    ]
    decoder = Decoder()
    for number in [*range(512), *range(512)]:
        names = [name for place, name in enumerate(optional) if number >> place & 1]
        decoded = decoder.decode({name: value for name, value in entry.items() if name not in names})
        assert (decoded.hooks, dict(decoded.logged)) == (
            () if "hooks" in names else RICH.hooks,
            {} if "logged" in names else dict(RICH.logged),
        )
