"""Where panels stand: within the page, one beside the other, each with an id of its own."""

from __future__ import annotations

from itertools import combinations

import pytest
from tests.dashboards.boards import BOARDS, data_panels, panels

from loopscope_dashboards.layout import Band, Row, place

COLUMNS = 24
SMALLEST = {
    "heatmap": (8, 7),
    "row": (24, 1),
    "stat": (3, 4),
    "state-timeline": (8, 7),
    "table": (6, 6),
    "timeseries": (6, 7),
}
"""Columns and rows that a panel needs to be read on a screen of 1,280 pixels."""


@pytest.mark.parametrize("name", BOARDS)
def test_no_panel_covers_another(name):
    """Two panels that share a column share no row of the grid."""
    for a, b in combinations([panel["gridPos"] for panel in panels(BOARDS[name])], 2):
        is_beside = a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"]
        is_above = a["y"] + a["h"] <= b["y"] or b["y"] + b["h"] <= a["y"]
        assert is_beside or is_above, (a, b)


@pytest.mark.parametrize("name", BOARDS)
def test_bands_fill_the_page(name):
    """Panels that begin in the same row of the grid are as high as each other and take all columns."""
    tops: dict[int, list[dict[str, int]]] = {}
    for panel in panels(BOARDS[name]):
        tops.setdefault(panel["gridPos"]["y"], []).append(panel["gridPos"])

    for band in tops.values():
        assert sum(each["w"] for each in band) == COLUMNS
        assert len({each["h"] for each in band}) == 1


@pytest.mark.parametrize("name", BOARDS)
def test_panels_are_large_enough(name):
    """Nothing is cramped."""
    for panel in panels(BOARDS[name]):
        width, height = SMALLEST[panel["type"]]
        assert panel["gridPos"]["w"] >= width, panel["title"]
        assert panel["gridPos"]["h"] >= height, panel["title"]


@pytest.mark.parametrize("name", BOARDS)
def test_ids_and_titles_are_unique(name):
    """A link to a panel finds one, and a reader can say which one they mean."""
    ids = [panel["id"] for panel in panels(BOARDS[name])]
    titles = [panel["title"] for panel in data_panels(BOARDS[name])]

    assert len(set(ids)) == len(ids)
    assert len(set(titles)) == len(titles)


def test_a_new_panel_leaves_ids_of_other_rows_alone():
    """Bookmarks of single panels outlast changes elsewhere."""
    rows = [Row("a", (Band(4, ({"title": "1"}, {"title": "2"})),)), Row("b", (Band(4, ({"title": "3"},)),))]
    longer = [Row("a", (Band(4, ({"title": "1"}, {"title": "2"}, {"title": "new"})),)), rows[1]]

    ids = [{panel.get("title"): panel["id"] for panel in place(each)} for each in (rows, longer)]
    assert ids[0]["3"] == ids[1]["3"]
    assert ids[0]["2"] == ids[1]["2"]


def test_a_folded_row_holds_its_panels():
    """What is folded takes one row of the page, and its panels are inside of it, as Grafana wants them."""
    placed = place(
        [
            Row("folded", (Band(8, ({"title": "1"},)),), is_collapsed=True),
            Row("open", (Band(8, ({"title": "2"},)),)),
        ]
    )

    assert [panel["title"] for panel in placed] == ["folded", "open", "2"]
    assert [panel["title"] for panel in placed[0]["panels"]] == ["1"]
    assert placed[1]["gridPos"]["y"] == 1


@pytest.mark.parametrize("widths", [(12, 13), (12,), (8, 8)])
def test_widths_have_to_fill_the_page(widths):
    """A slip of ours is told at once."""
    with pytest.raises(AssertionError):
        Band(4, ({}, {}), widths)
