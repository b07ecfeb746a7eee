"""What is read of an answer: any field may be missing, or be something else than this loopscope would write."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["column", "entries", "finite", "mapping", "real", "sequence", "text", "whole"]


def mapping(value: object) -> Mapping[str, Any]:
    """Return an object, an empty one for anything else."""
    return value if isinstance(value, dict) else {}


def sequence(value: object) -> Sequence[Any]:
    """Return an array, an empty one for anything else."""
    return value if isinstance(value, list) else ()


def entries(value: object) -> Sequence[Mapping[str, Any]]:
    """Return the objects of an array."""
    return [entry for entry in sequence(value) if isinstance(entry, dict)]


def text(value: object) -> str:
    """Return a text, an empty one for anything else."""
    return value if isinstance(value, str) else ""


def whole(value: object) -> int:
    """Return a whole number from 0 on, 0 for anything else."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


def real(value: object) -> float | None:
    """Return a number, NaN and infinity, which are texts, included; None for what is not known."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None


def finite(value: object) -> float:
    """Return a number of which there is no NaN and no infinity, 0 for anything else."""
    number = real(value)
    return number if number is not None and math.isfinite(number) else 0.0


def column(values: object, size: int) -> list[float]:
    """Return `size` numbers: what is not known is NaN, what was not finite infinity."""
    found = [_cell(value) for value in sequence(values)[:size]]
    return found + [math.nan] * (size - len(found))


def _cell(value: object) -> float:
    number = real(value)
    if number is None:
        return math.nan
    return number if math.isfinite(number) else math.inf
