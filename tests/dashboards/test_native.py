"""JSON as Grafana 11 and 12 read it: Grafana's own types lose nothing of it, and what is of older ones is gone."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
from grafana_foundation_sdk.cog import plugins
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from tests.dashboards.boards import BOARDS, data_panels, panels

with warnings.catch_warnings(action="ignore", category=DeprecationWarning):  # it would rather have Grafana 13's schema
    from grafana_foundation_sdk.models.dashboard import Dashboard

LEGACY = {
    "cacheTimeout", "columns", "error", "fieldOptions", "fontSize", "hideControls", "hideTimeOverride",
    "intervalFactor", "minSpan", "rows", "sharedCrosshair", "span", "step", "style", "tagsQuery", "useTags", "__inputs",
}  # fmt: skip


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every value that is no object and no list, with its path."""
    if isinstance(value, dict):
        for key, each in value.items():
            yield from leaves(each, f"{path}.{key}")
    elif isinstance(value, list):
        for index, each in enumerate(value):
            yield from leaves(each, f"{path}.{index}")
    else:
        yield path, value


@pytest.mark.parametrize("name", BOARDS)
def test_grafanas_own_types_lose_nothing(name):
    """Read by the foundation SDK and written again, every value is there, at the same place."""
    plugins.register_default_plugins()
    read = Dashboard.from_json(json.loads(json.dumps(BOARDS[name])))
    written = dict(leaves(json.loads(JSONEncoder(sort_keys=True).encode(read))))

    lost = {path: value for path, value in leaves(BOARDS[name]) if path not in written or written[path] != value}
    assert lost == {}


@pytest.mark.parametrize("name", BOARDS)
def test_nothing_of_old_grafanas_is_left(name):
    """No key of Grafana 4 to 8, no panel of Angular."""
    keys = {key for path, _ in leaves(BOARDS[name]) for key in path.split(".")}

    assert keys & LEGACY == set()
    assert {panel["type"] for panel in panels(BOARDS[name])} <= {
        "heatmap", "row", "stat", "state-timeline", "table", "timeseries",
    }  # fmt: skip


@pytest.mark.parametrize("name", BOARDS)
def test_the_only_null_is_the_lowest_threshold(name):
    """Which stands for minus infinity; a missing value there is compared with, and never reached."""
    nulls = [path for path, value in leaves(BOARDS[name]) if value is None]
    firsts = [path for path, _ in leaves(BOARDS[name]) if re.search(r"\.steps\.0\.color$", path)]

    assert nulls == [path.replace(".color", ".value") for path in firsts]


@pytest.mark.parametrize("name", BOARDS)
def test_legends_say_that_they_are_shown(name):
    """`showLegend` is added by a migration that newer schemas pass over; without it there is no legend."""
    for panel in data_panels(BOARDS[name]):
        legend = panel["options"].get("legend", {"showLegend": True})
        assert "showLegend" in legend or "show" in legend, panel["title"]


@pytest.mark.parametrize("name", BOARDS)
def test_data_points_are_grafanas_choice(name):
    """Grafanalib's 100 for every panel would hide what happens between them; a panel may ask for its own."""
    assert all(panel.get("maxDataPoints") != 100 for panel in data_panels(BOARDS[name]))


def test_heatmaps_want_buckets():
    """The format `heatmap` takes cumulative buckets apart, and needs the label `le` alone."""
    heatmaps = [panel for board in BOARDS.values() for panel in data_panels(board) if panel["type"] == "heatmap"]

    assert len(heatmaps) == 2
    for panel in heatmaps:
        (target,) = panel["targets"]
        assert target["format"] == "heatmap"
        assert target["expr"].startswith("sum by (le) (rate(")


def test_tables_merge_their_queries():
    """Grafana's table shows one frame at a time: several queries have to be merged, and be asked for as tables."""
    tables = [panel for board in BOARDS.values() for panel in data_panels(board) if panel["type"] == "table"]

    assert tables
    for panel in tables:
        assert panel["transformations"][0]["id"] == "merge", panel["title"]
        assert {target["format"] for target in panel["targets"]} == {"table"}
        assert {target["instant"] for target in panel["targets"]} == {True}


def test_tables_name_every_value_column():
    """No column is called `Value #C`."""
    for board in BOARDS.values():
        for panel in (each for each in data_panels(board) if each["type"] == "table"):
            named = {override["matcher"]["options"] for override in panel["fieldConfig"]["overrides"]}
            refs = [target["refId"] for target in panel["targets"]]
            assert named >= ({f"Value #{ref}" for ref in refs} if len(refs) > 1 else {"Value"}), panel["title"]
