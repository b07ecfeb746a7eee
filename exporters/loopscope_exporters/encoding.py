"""Records as JSON: one object with `version` and `type`, then the record's fields under their own names.

Columns lose the shape suffix of their names: `_P` and `_A` go, `_G` and `_GB` become the prefix `layer_`. Unknown is
null. JSON has no NaN and no infinity: values that really are so are the texts "NaN", "Infinity" and "-Infinity".
Columns of more than MAX_LAYERS entries, or not all finite, have 9 significant digits, which carries any float32.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from loopscope.catalog import MAX_LAYERS, metric
from loopscope.records import (
    ActivityReport,
    EpochReport,
    Event,
    Flags,
    GradientSample,
    GradientTable,
    HealthReport,
    LayerStatistics,
    Record,
    RunInfo,
    SelfReport,
    StepReport,
)

__all__ = ["VERSION", "encode"]

VERSION = 1
"""Raised when a field changes its meaning or goes; new fields come without notice, and readers ignore them."""

_TYPES: Mapping[type[Record], str] = {
    RunInfo: "run",
    StepReport: "step",
    EpochReport: "epoch",
    Event: "event",
    SelfReport: "self",
    ActivityReport: "activity",
    HealthReport: "health",
}
# Events are records of their own; gradients are columns, counters rows.
_NO_SCALARS = frozenset({"events", "gradients", "counters", "activations"})
_NAMES = frozenset({"layers", "names", "layer_index_P", "frozen"})
_PARAMETER_COLUMNS = frozenset({"names", "layer_index_P", "norms", "num_nonfinite", "frozen"}) | {
    field.name for field in fields(GradientSample) if field.name.endswith("_P")
}
# Columns in which NaN is a value and not a gap, where the gradient is non-finite.
_NAN_COLUMNS_P = ("norms", "max_abs_P", "weight_norms_P")
_NAN_COLUMNS_G = ("layer_norms", "max_abs_G", "weight_norms_G")


def encode(
    record: Record,
    *,
    has_parameters: bool = True,
    has_names: bool = True,
    extra: Mapping[str, object] | None = None,
) -> str:
    """Return `record` as the text of one JSON object, on one line.

    Without `has_parameters` the columns with an entry a parameter are left out; without `has_names` a step's tables
    of layers and parameter names. `extra` stands between the type and the fields.
    """
    scalars = {
        field.name: _plain(getattr(record, field.name)) for field in fields(record) if field.name not in _NO_SCALARS
    }
    text = _dump({"version": VERSION, "type": _TYPES[type(record)], **(extra or {}), **scalars})
    if isinstance(record, EpochReport):
        return _append(text, "gradients", _statistics(record.gradients))
    if isinstance(record, StepReport):
        left_out = (frozenset() if has_parameters else _PARAMETER_COLUMNS) | (frozenset() if has_names else _NAMES)
        activations = "null" if record.activations is None else _object(record.activations, (), {})
        text = _append(text, "activations", activations)
        return _append(text, "gradients", _table(record.gradients, left_out))
    if isinstance(record, ActivityReport):
        return _append(text, "counters", _dump(_counters(record)))
    return text


def _counters(record: ActivityReport) -> list[dict[str, object]]:
    """Return a row a series: the metric's name in the catalog, its labels, its value."""
    return [
        {"name": name, "labels": dict(zip(metric(name).labels, labels, strict=True)), "value": value}
        for name, series in record.counters.items()
        for labels, value in series.items()
    ]


def _append(text: str, key: str, value: str) -> str:
    return f'{text[:-1]},"{key}":{value}}}'


def _statistics(statistics: LayerStatistics | None) -> str:
    return "null" if statistics is None else _object(statistics, (), {})


def _table(table: GradientTable | None, left_out: Collection[str]) -> str:
    if table is None:
        return "null"
    is_nan: dict[str, Flags] = {}
    if table.has_nonfinite:
        is_nan = dict.fromkeys(_NAN_COLUMNS_P, table.is_nonfinite)
        is_nan |= dict.fromkeys(_NAN_COLUMNS_G, table.layer_num_nonfinite > 0)
    sample = "null" if table.sample is None else _object(table.sample, left_out, is_nan)
    return _append(_object(table, {"sample", *left_out}, is_nan), "sample", sample)


def _object(columns: Any, left_out: Collection[str], is_nan: Mapping[str, Flags]) -> str:
    """Return a dataclass of columns and scalars as an object; `is_nan` says where a NaN is one."""
    texts = []
    for field in fields(columns):
        if field.name in left_out or not field.init:  # what follows from the others is not written
            continue
        value = getattr(columns, field.name)
        if isinstance(value, np.ndarray):
            text = _column(value, is_nan.get(field.name))
        elif isinstance(value, float) and math.isnan(value) and not is_nan:
            text = "null"
        else:
            text = _dump(_plain(value))
        texts.append(f'"{_key(field.name)}":{text}')
    return f"{{{','.join(texts)}}}"


def _key(name: str) -> str:
    stem, _, shape = name.rpartition("_")
    return {"P": stem, "A": stem, "G": f"layer_{stem}", "GB": f"layer_{stem}"}.get(shape, name)


def _column(values: npt.NDArray[Any], is_nan: Flags | None) -> str:
    if values.dtype.kind != "f":
        return _dump(values.tolist())
    numbers: list[float] = values.tolist()
    is_finite = bool(np.isfinite(values).all())
    if is_finite and len(numbers) <= MAX_LAYERS:
        return _dump(numbers)  # in full: what a layer's series show is what the log holds
    if is_finite:
        # One format for all is three times as fast as json on a list of floats.
        return f"[{(',%.9g' * len(numbers))[1:] % tuple(numbers)}]"
    flags = [False] * len(numbers) if is_nan is None else is_nan.tolist()
    return f"[{','.join(_number(number, is_real) for number, is_real in zip(numbers, flags, strict=True))}]"


def _number(value: float, is_real: bool) -> str:
    if math.isfinite(value):
        return f"{value:.9g}"
    return "null" if math.isnan(value) and not is_real else f'"{_nonfinite(value)}"'


def _nonfinite(value: float) -> str:
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _plain(value: object) -> object:
    """Return what json can write: settings and attributes may hold anything."""
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, np.generic | np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else _nonfinite(value)
    if is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name) for field in fields(value)}
    if isinstance(value, Mapping):
        return {"" if key is None else str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(entry) for entry in value]
    return str(value)


def _dump(value: object) -> str:
    return json.dumps(value, allow_nan=False, separators=(",", ":"))
