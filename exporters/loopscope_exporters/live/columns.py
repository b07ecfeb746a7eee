"""Columns of numbers as JSON, fast: one format for all of them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping

from loopscope.records import Floats

from ..yielding import Yielding

__all__ = ["column", "columns", "dump", "rows", "scalar"]


def column(values: Floats, digits: int = 6) -> str:
    """Return an array of numbers: NaN, what is not known, as null, infinity, what was not finite, as "NaN"."""
    text = (f",%.{digits}g" * len(values) % tuple(values.tolist()))[1:]
    for word, value in (("-inf", "inf"), ("inf", '"NaN"'), ("nan", "null")):
        text = text.replace(word, value)
    return f"[{text}]"


def columns(named: Mapping[str, Floats]) -> str:
    """Return an object of such arrays; between them a training loop that waits for the interpreter gets it."""
    return f"{{{','.join(f'{dump(name)}:{column(values)}' for name, values in Yielding(named.items, 1))}}}"


def rows(table: Floats, digits: int = 3) -> str:
    """Return an array of such arrays, likewise."""
    return f"[{','.join(column(values, digits) for values in Yielding(lambda: table, 1))}]"


def scalar(value: float | None) -> float | str | None:
    """Return a number as `column` writes it, for `dump`."""
    if value is None or math.isnan(value):
        return None
    return value if math.isfinite(value) else "NaN"


def dump(value: object) -> str:
    """Return plain values as JSON without spaces."""
    return json.dumps(value, allow_nan=False, separators=(",", ":"))
