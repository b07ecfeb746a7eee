"""Columns from JSON: arrays of the sizes that belong together, and tuples of names."""

from __future__ import annotations

import functools
import math
import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any, get_args, get_origin, get_type_hints

import numpy as np
import numpy.typing as npt

from loopscope.records import (
    NUM_EXPONENT_BINS,
    ActivationTable,
    Floats,
    GradientSample,
    Integers,
    LayerStatistics,
)

from .forms import Entry, Form, real

__all__ = ["activations", "floats", "indices", "integers", "places", "sample", "statistics", "texts"]

_LETTERS = {np.float64: "d", np.int64: "q", np.bool_: "?"}
"""The codes of `struct`."""
_NAMES_OF_ACTIVATIONS = ("names", "modules", "types", "layers")
_NAMES_OF_STATISTICS = ("layers", "health", "health_rule")
_FLOATS_OF_STATISTICS = ("mean", "max", "min", "p50", "p95", "zero_ratio")
_COUNTS_OF_STATISTICS = ("num_steps", "num_nonfinite_steps")
_STATISTICS = Form(LayerStatistics, *_NAMES_OF_STATISTICS, *_FLOATS_OF_STATISTICS, *_COUNTS_OF_STATISTICS, "trend")


def floats(values: Sequence[Any], size: int) -> Floats:
    """Return float64, not to be written to; what stands for a number is one, as in `real`.

    Raises KeyError, TypeError or ValueError for anything else, and for another size.
    """
    try:
        return np.frombuffer(_packer(size, np.float64)(*values))
    except struct.error:
        return _array(values, (size,), np.float64)


def integers(values: Sequence[Any], size: int) -> Integers:
    """Return int64, not to be written to; raises as `floats`."""
    zeros, zeros_N = _zeros(size)
    return zeros_N if values == zeros else _array(values, (size,), np.int64)


def texts(values: Sequence[Any]) -> tuple[str, ...]:
    """Return names; raises TypeError for what is none."""
    if not isinstance(values, list | tuple) or not all(isinstance(value, str) for value in values):
        raise TypeError("names are a list of texts")
    return tuple(values)


def places(values: Sequence[Any], num_rows: int) -> tuple[int, ...]:
    """Return places in a table of so many rows; raises TypeError or ValueError for what is none."""
    return tuple(indices(values, len(values), num_rows).tolist())


def indices(values: Sequence[Any], size: int, num_rows: int) -> Integers:
    """Return so many places in a table of `num_rows` rows; raises as `places`."""
    found = integers(values, size)
    if size and not 0 <= found.min() <= found.max() < num_rows:
        raise ValueError(f"places in a table of {num_rows} rows are 0 to {num_rows - 1}")
    return found


def sample(entry: Entry | None, num_parameters: int, num_layers: int) -> GradientSample | None:
    """Return the sampled statistics of a table, None where the step was not sampled."""
    if entry is None or "is_exact" not in entry:
        return None
    shapes = {"P": (num_parameters,), "G": (num_layers,), "GB": (num_layers, NUM_EXPONENT_BINS)}
    values: dict[str, Any] = {"sum_abs": real(entry["sum_abs"])}
    for name, (stem, shape, kind) in _arrays(GradientSample).items():
        values[name] = _array(entry[stem if shape == "P" else f"layer_{stem}"], shapes[shape], kind)
    return GradientSample(**values)


def activations(entry: Entry | None) -> ActivationTable | None:
    """Return the table of activation modules, None where there is none."""
    if entry is None:
        return None
    names = [texts(entry[name]) for name in _NAMES_OF_ACTIVATIONS]
    arrays = _arrays(ActivationTable)
    return _ACTIVATIONS.build(
        entry, *names, *(_array(entry[stem], (len(names[0]),), kind) for stem, _, kind in arrays.values())
    )


def statistics(entry: Entry | None) -> LayerStatistics | None:
    """Return the statistics of an epoch, None where there were no gradients."""
    if entry is None:
        return None
    names = [texts(entry.get(name, ())) for name in _NAMES_OF_STATISTICS]
    size, trend = len(names[0]), entry.get("trend", ())
    reals = [floats(entry[name], size) for name in _FLOATS_OF_STATISTICS]
    counts = [integers(entry[name], size) for name in _COUNTS_OF_STATISTICS]
    return _STATISTICS.build(entry, *names, *reals, *counts, floats(trend, len(trend) and size))


@functools.cache
def _arrays(record: Any) -> Mapping[str, tuple[str, str, Any]]:
    """Return of the arrays of a record, whose names end in their shape: the name without it, the shape, the dtype."""
    found = {}
    for name, hint in get_type_hints(record).items():
        if get_origin(hint) is np.ndarray:
            stem, _, shape = name.rpartition("_")
            found[name] = stem, shape, get_args(get_args(hint)[1])[0]
    return found


def _array(values: Sequence[Any], shape: tuple[int, ...], kind: Any) -> npt.NDArray[Any]:
    """Return an array of this shape; where all are numbers by way of `struct`, which takes half of NumPy's time."""
    rows = values if len(shape) > 1 else (values,)
    if kind is np.bool_ and not {bool}.issuperset(map(type, values)):
        raise TypeError("flags are true or false")
    try:
        pack = _packer(shape[-1], kind)
        found = np.frombuffer(b"".join([pack(*row) for row in rows]), kind)
    except struct.error:
        if kind is not np.float64:
            raise ValueError(f"a column needs {shape[-1]} whole numbers or flags, and nothing else") from None
        found = np.array([*map(real, values)])  # a null or a text among them; or another size
    if len(values) != shape[0] or found.shape not in {shape, (math.prod(shape),)}:
        raise ValueError(f"a column has the shape {found.shape}, where the others need {shape}")
    return found.reshape(shape) if len(shape) > 1 else found


@functools.lru_cache(maxsize=16)
def _zeros(size: int) -> tuple[list[int], Integers]:
    """Return zeros as a list and as an array: most columns of counts are nothing else."""
    zeros_N = np.zeros(size, dtype=np.int64)
    zeros_N.flags.writeable = False
    return [0] * size, zeros_N


@functools.lru_cache(maxsize=64)
def _packer(size: int, kind: Any) -> Callable[..., bytes]:
    return struct.Struct(f"{size}{_LETTERS[kind]}").pack


_ACTIVATIONS = Form(ActivationTable, *_NAMES_OF_ACTIVATIONS, *_arrays(ActivationTable))
