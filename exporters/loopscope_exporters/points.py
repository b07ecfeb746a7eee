"""Points: what a series is at one moment, for any exporter of metrics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

__all__ = ["Histogram", "Labels", "Point", "Points", "clean", "put"]

Labels: TypeAlias = dict[str, str]


class Histogram(NamedTuple):
    """Counts by bucket (not cumulative, the last above all bounds) and the sum of what was counted."""

    counts: Sequence[int]
    sum: float


class Point(NamedTuple):
    """One series at one moment."""

    labels: Labels
    value: float | Histogram


Points: TypeAlias = dict[str, list[Point]]
"""Points by the catalog's name of their metric, in the catalog's order."""


def clean(text: str) -> str:
    """Return `text` as a label value: lone surrogates, which UTF-8 cannot carry, become question marks."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def put(points: Points, name: str, labels: Labels, value: float | None) -> None:
    """Add a point, unless its value is not known."""
    if value is not None:
        points[name].append(Point(labels, value))
