"""Where panels stand: rows of bands, each band filled from left to right, so that nothing overlaps."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from .native import Json

__all__ = ["Band", "Row", "place"]

_COLUMNS = 24
_IDS_A_ROW = 100
"""A panel's id is that of its row and its place in it: links to panels of other rows outlast a new one."""


@dataclass(frozen=True, slots=True)
class Band:
    """Panels beside each other: all as wide as each other, or of `widths` in 24ths of the page."""

    height: int
    panels: tuple[Json, ...]
    widths: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """Fill in equal widths, and check that they fill the page."""
        if not self.widths:
            object.__setattr__(self, "widths", (_COLUMNS // len(self.panels),) * len(self.panels))
        assert len(self.widths) == len(self.panels), self.widths
        assert sum(self.widths) == _COLUMNS, self.widths


@dataclass(frozen=True, slots=True)
class Row:
    """Bands under a title; `is_collapsed` shows the title only until it is clicked."""

    title: str
    bands: tuple[Band, ...]
    is_collapsed: bool = False


def place(rows: Iterable[Row]) -> list[Json]:
    """Return the panels of all rows with their places and ids; those of a collapsed row are inside of it."""
    placed: list[Json] = []
    top = 0
    for index, row in enumerate(rows, start=1):
        first_id = index * _IDS_A_ROW
        head: Json = {
            "collapsed": row.is_collapsed,
            "gridPos": {"h": 1, "w": _COLUMNS, "x": 0, "y": top},
            "id": first_id,
            "panels": [],
            "title": row.title,
            "type": "row",
        }
        panels = list(_place_bands(row.bands, top + 1, first_id + 1))
        placed.append(head)
        if row.is_collapsed:
            head["panels"] = panels
            top += 1
        else:
            placed += panels
            top += 1 + sum(band.height for band in row.bands)
    return placed


def _place_bands(bands: Iterable[Band], top: int, first_id: int) -> Iterable[Json]:
    for band in bands:
        left = 0
        for panel, width in zip(band.panels, band.widths, strict=True):
            yield panel | {"gridPos": {"h": band.height, "w": width, "x": left, "y": top}, "id": first_id}
            left += width
            first_id += 1
        top += band.height
