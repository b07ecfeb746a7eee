"""Points: what a series is at one moment, for any exporter of metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple, TypeAlias

__all__ = ["Exemplar", "Histogram", "Labels", "Point", "Points", "clean", "put"]

Labels: TypeAlias = dict[str, str]


class Exemplar(NamedTuple):
    """One of the values that a bucket has counted, and the step that it was."""

    value: float
    step: int
    time_unix_seconds: float


class Histogram(NamedTuple):
    """Counts by bucket (not cumulative, the last above all bounds), the sum, and the latest of some buckets."""

    counts: Sequence[int]
    sum: float
    exemplars: Mapping[int, Exemplar] = MappingProxyType({})
    """By the index of the bucket."""


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
