"""The kinds of panels that the dashboards are made of, each with a unit, a description and what an empty one means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from grafanalib import core

from loopscope.catalog import MAX_LAYERS

from .colors import GOOD, steps
from .native import DATA_SOURCE, Json, heatmap, native_panel, targets

__all__ = ["column", "grid", "histogram", "lines", "note", "override", "paint", "stat", "states"]

_PLAIN = steps((None, GOOD))


def lines(
    title: str,
    description: str,
    *queries: Json,
    unit: str,
    empty: str,
    is_log: bool = False,
    stacking: str = "none",
    legend: Sequence[str] = (),
    is_wide: bool = False,
    is_stepped: bool = False,
    defaults: Mapping[str, Any] | None = None,
    least_top: float | None = None,
    overrides: Sequence[Json] = (),
    links: Sequence[Json] = (),
) -> Json:
    """Return time series.

    `legend` are reducers shown in it, `is_wide` puts it to the right as a table; `least_top` keeps the axis of what is
    mostly 0 from being cut up finely.
    """
    shown: Json = {"noValue": empty} | ({} if is_log else {"min": 0}) | dict(defaults or {})
    if shown.get("min", 0) is None:
        del shown["min"]
    if least_top is not None:
        shown["custom"] = {**shown.get("custom", {}), "axisSoftMax": least_top}
    made: Json = core.TimeSeries(
        **_common(title, description, queries, links),
        unit=unit,
        fillOpacity=0 if stacking == "none" else 60,
        lineWidth=1,
        lineInterpolation="stepAfter" if is_stepped else "linear",
        showPoints="never",
        spanNulls=False,
        stacking={"group": "A", "mode": stacking},
        scaleDistributionType="log" if is_log else "linear",
        scaleDistributionLog=10,
        legendDisplayMode="table" if is_wide else "list",
        legendPlacement="right" if is_wide else "bottom",
        legendCalcs=list(legend),
        tooltipMode="multi",
        tooltipSort="desc",
        overrides=list(overrides),
        extraJson={"fieldConfig": {"defaults": shown}},
    ).to_json_data()
    return made


def stat(
    title: str,
    description: str,
    *queries: Json,
    unit: str,
    empty: str,
    thresholds: Json = _PLAIN,
    mappings: Sequence[Json] = (),
    decimals: int | None = None,
    has_trend: bool = True,
    text: str = "auto",
    calc: str = "lastNotNull",
    links: Sequence[Json] = (),
) -> Json:
    """Return large numbers, one a series, coloured by `thresholds`; `text` is `name` for the series' name alone."""
    made: Json = core.Stat(
        **_common(title, description, queries, links),
        format=unit,
        colorMode="value",
        graphMode="area" if has_trend else "none",
        reduceCalc=calc,
        orientation="auto",
        textMode=text,
        mappings=list(mappings),
        decimals=decimals,
        noValue=empty,
        thresholds=thresholds["steps"],
        extraJson={
            "fieldConfig": {"defaults": {"color": {"mode": "thresholds"}}},
            "options": {"text": {"titleSize": 12}},
        },
    ).to_json_data()
    return made


def states(
    title: str,
    description: str,
    *queries: Json,
    mappings: Sequence[Json],
    empty: str,
    row_height: float = 0.9,
    links: Sequence[Json] = (),
    data_points: int | None = None,
) -> Json:
    """Return one row a series over time, values as texts and colours of `mappings`."""
    made: Json = core.StateTimeline(
        **_common(title, description, queries, links),
        colorMode="fixed",
        fillOpacity=85,
        lineWidth=0,
        rowHeight=row_height,
        showValue="never",
        legendPlacement="bottom",
        mappings=list(mappings),
        maxDataPoints=data_points,
        extraJson={
            "fieldConfig": {"defaults": {"noValue": empty, "unit": "none"}},
            "options": {"perPage": MAX_LAYERS},
        },
    ).to_json_data()
    return made


def histogram(title: str, description: str, query: Json, *, unit: str, empty: str, links: Sequence[Json] = ()) -> Json:
    """Return a histogram's buckets over time; the query is a `sum by (le)` of their increase."""
    panel = core.Panel(**_common(title, description, (query | {"format": "heatmap"},), links))
    return heatmap(panel, unit=unit, no_value=empty)


def grid(
    title: str,
    description: str,
    *queries: Json,
    columns: Sequence[Json],
    order: Sequence[str],
    sort: tuple[str, bool],
    empty: str,
    links: Sequence[Json] = (),
) -> Json:
    """Return a table with a row for each set of labels and a column for each label and query.

    `columns` are from `column`; `order` are fields as the queries give them, others follow them; `sort` is a column's
    name and whether the largest come first.
    """
    transformations: list[Json] = [
        {"id": "merge", "options": {}},
        {
            "id": "organize",
            "options": {
                "excludeByName": {"Time": True},
                "indexByName": {name: index for index, name in enumerate(order)},
                "renameByName": {},
            },
        },
    ]
    options = {
        "cellHeight": "sm",
        "footer": {"countRows": False, "fields": "", "reducer": ["sum"], "show": False},
        "showHeader": True,
        "sortBy": [{"desc": sort[1], "displayName": sort[0]}],
    }
    defaults: Json = {
        "custom": {
            "align": "auto",
            "cellOptions": {"type": "auto"},
            "filterable": False,
            "inspect": False,
            "minWidth": 70,
        },
        "noValue": empty,
        "thresholds": _PLAIN,
        "unit": "none",
    }
    panel = core.Panel(**_common(title, description, queries, links), transformations=transformations)
    return native_panel(panel, "table", options, defaults, columns)


def column(
    field: str,
    name: str,
    *,
    unit: str = "",
    width: int = 0,
    mappings: Sequence[Json] = (),
    thresholds: Json | None = None,
    decimals: int | None = None,
    links: Sequence[Json] = (),
    is_colored: bool = True,
    is_hidden: bool = False,
) -> Json:
    """Return how a table shows one field: under which name, in which unit and colours; a hidden one feeds links."""
    properties: Json = {"displayName": name}
    if is_hidden:  # by its name up to schema version 41, and by that of 42, to which Grafana renames it
        properties |= {"custom.hidden": True, "custom.hideFrom.viz": True}
    if unit:
        properties["unit"] = unit
    if decimals is not None:
        properties["decimals"] = decimals
    if width:
        properties["custom.width"] = width
    if mappings:
        properties["mappings"] = list(mappings)
    if thresholds is not None:
        properties["thresholds"] = thresholds
    if is_colored and (mappings or thresholds is not None):
        properties["custom.cellOptions"] = {"type": "color-text"}
    if links:
        properties["links"] = list(links)
    return override("byName", field, properties)


def override(matcher: str, what: str, properties: Mapping[str, Any]) -> Json:
    """Return field options for some fields only: `byName`, `byRegexp` or `byFrameRefID`."""
    return {
        "matcher": {"id": matcher, "options": what},
        "properties": [{"id": key, "value": value} for key, value in properties.items()],
    }


def paint(name: str, color: str) -> Json:
    """Return the override that gives a series its colour."""
    return override("byName", name, {"color": {"fixedColor": color, "mode": "fixed"}})


def note(content: str) -> Json:
    """Return a text in Markdown."""
    made: Json = core.Text(content=content, title="", transparent=True).to_json_data()
    made.pop("error")
    return made


def _common(title: str, description: str, queries: Sequence[Json], links: Sequence[Json]) -> Json:
    return {
        "title": title,
        "description": description,
        "dataSource": DATA_SOURCE,
        "targets": targets(queries),
        "links": list(links),
    }
