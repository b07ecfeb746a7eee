"""The characters of a picture: text that is safe to draw, sparklines and bars, with Unicode or without."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ..report.humanise import escape_controls

__all__ = ["ASCII", "UNICODE", "Glyphs"]

NOT_FINITE = "!"
_LOGARITHMIC = 20
"""Quotient of the largest and the smallest value from which a sparkline is logarithmic, as the report's are."""
_PLAIN = str.maketrans({"·": "|", "µ": "u", "…": "~", "∞": "inf", "●": "*", "→": ">"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Glyphs:
    """One set of characters."""

    is_unicode: bool
    bars: str
    """From low to high."""
    shades: str
    """One for each phase of a step."""

    def text(self, words: object) -> str:
        """Return a text, which may come from the run, without what a terminal would act on or not show."""
        safe = escape_controls(words)
        return safe if self.is_unicode else safe.translate(_PLAIN).encode("ascii", "backslashreplace").decode()

    def sparkline(self, points: Sequence[float], width: int, *, is_from_zero: bool = False) -> str:
        """Return the course of a value in at most `width` characters; `!` was not finite, a gap is not known.

        It is logarithmic where the values are far apart; unless `is_from_zero` the lowest of them is the lowest bar.
        From zero most bars are high: the highest is left out, so that they do not run into the line above.
        """
        size = max(min(width, len(points)), 0)
        parts = [points[index * len(points) // size : (index + 1) * len(points) // size] for index in range(size)]
        means = [_mean(part) for part in parts]
        finite = [mean for mean in means if math.isfinite(mean)]
        if finite and not is_from_zero and min(finite) > 0 and max(finite) / min(finite) >= _LOGARITHMIC:
            means = [math.log(mean) if math.isfinite(mean) else mean for mean in means]
            finite = [mean for mean in means if math.isfinite(mean)]
        low, high = (min(finite), max(finite)) if finite else (0.0, 0.0)
        bars = self.bars[:-1] if is_from_zero else self.bars
        low = min(low, 0.0) if is_from_zero else low
        return "".join(_bar(bars, mean, low, high) for mean in means)

    def stack(self, shares: Sequence[float], width: int) -> Sequence[str]:
        """Return the parts of a bar of `width` characters, one for each share of the whole."""
        ends = [round(width * sum(shares[: index + 1])) for index in range(len(shares))]
        parts = zip(self.shades, [0, *ends], ends, strict=False)
        return [shade * (end - start) for shade, start, end in parts]


UNICODE = Glyphs(is_unicode=True, bars="▁▂▃▄▅▆▇█", shades="░▒▓█·")
ASCII = Glyphs(is_unicode=False, bars="_.-=+*%#", shades="=+%#.")


def _mean(points: Sequence[float]) -> float:
    """Return the mean of what is known: infinity where any was not finite, NaN where nothing is known."""
    known = [point for point in points if not math.isnan(point)]
    if any(math.isinf(point) for point in known):
        return math.inf
    return sum(known) / len(known) if known else math.nan


def _bar(bars: str, value: float, low: float, high: float) -> str:
    if math.isnan(value):
        return " "
    if math.isinf(value):
        return NOT_FINITE
    level = (value - low) / (high - low) if high > low else 0.5
    return bars[min(int(level * len(bars)), len(bars) - 1)]
