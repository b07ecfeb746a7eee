"""The colours of numbers: one hue from faint to strong, told apart by their lightness alone."""

from __future__ import annotations

from collections.abc import Sequence

from .heatmaps import NUM_COLOURS

__all__ = ["palette"]

_Colour = tuple[int, int, int]
_LIGHT: Sequence[_Colour] = ((232, 240, 246), (168, 200, 224), (84, 143, 189), (27, 86, 140), (10, 39, 78))
_DARK: Sequence[_Colour] = ((27, 37, 48), (28, 66, 101), (46, 111, 163), (112, 170, 214), (222, 238, 250))
"""What is low is near to the page's own colour in both."""


def palette() -> str:
    """Return the rules of the classes q0 to q15 of cells, and b0 to b15 of the legend's swatches."""
    rules = []
    for index in range(NUM_COLOURS):
        colour = f"light-dark({_at(_LIGHT, index)},{_at(_DARK, index)})"
        rules.append(f".q{index}{{fill:{colour}}}.b{index}{{background:{colour}}}")
    return "".join(rules) + "\n"


def _at(anchors: Sequence[_Colour], index: int) -> str:
    place = index / (NUM_COLOURS - 1) * (len(anchors) - 1)
    low = min(int(place), len(anchors) - 2)
    mixed = [round(a + (b - a) * (place - low)) for a, b in zip(anchors[low], anchors[low + 1], strict=True)]
    return "#" + "".join(f"{channel:02x}" for channel in mixed)
