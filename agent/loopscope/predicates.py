"""Predicates: what a value of a setting is."""

from __future__ import annotations

import math

__all__ = ["are_exporters", "are_places", "are_texts", "is_exporter", "is_number", "is_place", "is_text"]


def is_exporter(value: object) -> bool:
    """Whether it is a name, or has what every exporter has."""
    if isinstance(value, str):
        return bool(value)
    return hasattr(value, "name") and all(callable(getattr(value, verb, None)) for verb in ("export", "flush", "close"))


def are_places(value: object) -> bool:
    """Whether it is a tuple of lines and files."""
    return isinstance(value, tuple) and all(is_place(place) for place in value)


def is_place(value: object) -> bool:
    """Whether it is `file`, or `file:line`."""
    if not isinstance(value, str):
        return False
    name, colon, line = value.rpartition(":")
    return bool(name.strip()) and line.isdecimal() if colon else bool(value.strip()) and not value.isdecimal()


def is_number(value: object) -> bool:
    """Whether it is a finite number, True and False left out."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def is_text(value: object) -> bool:
    """Whether it is a text that is not empty."""
    return isinstance(value, str) and bool(value)


def are_texts(value: object) -> bool:
    """Whether it is a tuple of texts."""
    return isinstance(value, tuple) and all(is_text(text) for text in value)


def are_exporters(value: object) -> bool:
    """Whether it is a tuple of exporters."""
    return isinstance(value, tuple) and all(is_exporter(exporter) for exporter in value)
