"""Numbers as a person reads them: three digits that count, and the unit."""

from __future__ import annotations

import math

__all__ = ["UNKNOWN", "bytes_", "count", "escape_controls", "number", "power", "seconds", "share", "span", "steps"]

UNKNOWN = "-"
"""What stands for a value that is not known."""

_MANY = 100_000
_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def number(value: float | None) -> str:
    """Return a number with three or four significant digits, a dash where it is not known."""
    if value is None:
        return UNKNOWN
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "∞" if value > 0 else "-∞"
    size = abs(value)
    if size and (size < 1e-3 or size >= 1e9):
        return f"{value:.3g}".replace("e-0", "e-").replace("e+0", "e").replace("e+", "e")
    if size >= 10_000:
        return _scaled(value)
    return f"{value:,.0f}" if value == int(value) else f"{value:.4g}"


def count(value: float) -> str:
    """Return a count in full below 100,000, above in k, M, G."""
    return f"{value:,.0f}" if abs(value) < _MANY else _scaled(value)


def power(exponent: int) -> str:
    """Return a power of two with its exponent raised."""
    return "2" + str(exponent).translate(_RAISED)


def seconds(value: float | None) -> str:
    """Return a duration in the unit that suits it."""
    if value is None or not math.isfinite(value):
        return UNKNOWN
    size = abs(value)
    if size == 0:
        return "0 s"
    for limit, factor, unit in ((1e-3, 1e6, "µs"), (1.0, 1e3, "ms"), (99.95, 1.0, "s")):
        if size < limit:
            return f"{value * factor:.3g} {unit}"
    minutes, rest = divmod(round(value), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    return f"{hours // 24} d {hours % 24} h"


def share(value: float | None) -> str:
    """Return a share as a percentage."""
    if value is None or not math.isfinite(value):
        return UNKNOWN
    percent = 100 * value
    if 0 < abs(percent) < 0.1:
        return "< 0.1 %"
    return f"{percent:.1f} %" if abs(percent) < 99.95 else f"{percent:.0f} %"


def bytes_(value: float) -> str:
    """Return a size of a file."""
    for unit in ("B", "kB", "MB"):
        if value < 1_000:
            return f"{value:.3g} {unit}"
        value /= 1_000
    return f"{value:.3g} GB"


def span(first: int, last: int) -> str:
    """Return a range of whole numbers."""
    return f"{first:,}" if first == last else f"{first:,} to {last:,}"


def steps(first: int, last: int) -> str:
    """Return a span of steps in words."""
    return f"step{'' if first == last else 's'} {span(first, last)}"


def escape_controls(text: object) -> str:
    """Return a text of the log without what a terminal or a page would act on: controls, lone surrogates."""
    plain = str(text)
    if plain.isprintable():
        return plain
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode() for character in plain
    )


def _scaled(value: float) -> str:
    for limit, factor, unit in ((1e6, 1e3, "k"), (1e9, 1e6, "M"), (1e12, 1e9, "G"), (math.inf, 1e12, "T")):
        if abs(value) < limit * 0.9995:
            return f"{value / factor:.3g}{unit}"
    raise AssertionError("the last limit is infinite")
