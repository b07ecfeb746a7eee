"""What Grafana 11 and 12 want and grafanalib 0.7.1 does not write: newer panels, and JSON without what is gone.

grafanalib was made for Grafana 8 to 10. It lacks the heatmap of today, writes nulls, options of
panels that were removed, 100 data points for every panel and a schema version of 2016, which would make Grafana run old
migrations.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

from grafanalib._gen import DashboardEncoder

__all__ = ["DATA_SOURCE", "SCHEMA_VERSIONS", "Json", "heatmap", "native", "native_panel", "targets"]

Json: TypeAlias = dict[str, Any]

DATA_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
SCHEMA_VERSIONS = {"11": 39, "12": 41}
"""Of Grafana 11.0 and 12.0: later ones of the same major version bring a dashboard up to their own when they load "
"it."""

_NOT_OF_DASHBOARDS = ("__inputs", "gnetId", "hideControls", "rows", "sharedCrosshair", "style", "version")
_NOT_OF_PANELS = (
    "cacheTimeout",
    "color",
    "columns",
    "editable",
    "error",
    "fontSize",
    "height",
    "hideTimeOverride",
    "mappings",
    "minSpan",
    "span",
)
_NOT_OF_ROWS = ("datasource", "fieldConfig", "links", "maxDataPoints", "targets", "transformations", "transparent")
_NOT_OF_VARIABLES = ("auto", "auto_count", "auto_min", "tagValuesQuery", "tagsQuery", "useTags")
_GRAFANALIB_DATA_POINTS = 100


def targets(queries: Iterable[Json]) -> list[Json]:
    """Return queries as a panel has them, named A, B, C in their order."""
    common = {"datasource": DATA_SOURCE, "editorMode": "code"}
    return [common | query | {"refId": chr(ord("A") + index)} for index, query in enumerate(queries)]


def native_panel(panel: Any, kind: str, options: Json, defaults: Json, overrides: Sequence[Json] = ()) -> Json:
    """Return a panel of a kind that grafanalib does not know, with what all panels have taken from `panel`."""
    field_config = {"defaults": defaults, "overrides": list(overrides)}
    built: Json = panel.panel_json({"type": kind, "fieldConfig": field_config, "options": options})
    return built


def heatmap(panel: Any, *, unit: str, no_value: str) -> Json:
    """Return a heatmap of a histogram's buckets; queries are `sum by (le)`, in the format `heatmap`."""
    color = {
        "mode": "scheme",
        "scheme": "Oranges",
        "exponent": 0.5,
        "fill": "dark-orange",
        "reverse": False,
        "scale": "exponential",
        "steps": 64,
    }
    options = {
        "calculate": False,
        "cellGap": 1,
        "color": color,
        "exemplars": {"color": "rgba(255,0,255,0.7)"},
        "filterValues": {"le": 1e-9},
        "legend": {"show": True},
        "rowsFrame": {"layout": "auto"},
        "showValue": "never",
        "tooltip": {"mode": "single", "showColorScale": True, "yHistogram": True},
        "yAxis": {"axisPlacement": "left", "reverse": False, "unit": unit},
    }
    custom = {
        "hideFrom": {"legend": False, "tooltip": False, "viz": False},
        "scaleDistribution": {"type": "linear"},
    }
    return native_panel(panel, "heatmap", options, {"custom": custom, "noValue": no_value})


def native(dashboard: Any, grafana: str) -> Json:
    """Return a grafanalib Dashboard as JSON of Grafana `11` or `12`."""
    made: Json = _without_nulls(json.loads(json.dumps(dashboard.to_json_data(), cls=DashboardEncoder)))
    _drop(made, _NOT_OF_DASHBOARDS)
    made["schemaVersion"] = SCHEMA_VERSIONS[grafana]
    made["timepicker"] = {"refresh_intervals": made["timepicker"]["refresh_intervals"]}
    for variable in made["templating"]["list"]:
        _clean_variable(variable)
    for panel in made["panels"]:
        for each in (panel, *panel.get("panels", ())):
            _clean_panel(each)
    return made


def _clean_variable(variable: Json) -> None:
    _drop(variable, _NOT_OF_VARIABLES)
    if variable["type"] == "query":
        variable["query"] = {"qryType": 1, "query": variable["query"], "refId": "Variable"}
        variable["definition"] = variable["query"]["query"]
    variable["current"] = {}
    variable["options"] = []


def _clean_panel(panel: Json) -> None:
    _drop(panel, _NOT_OF_PANELS)
    if panel["type"] == "row":
        _drop(panel, _NOT_OF_ROWS)
        return
    if panel.get("maxDataPoints") == _GRAFANALIB_DATA_POINTS:
        del panel["maxDataPoints"]
    if panel["type"] == "text":
        _drop(panel, ("datasource", "fieldConfig", "targets", "transformations"))
        return
    defaults = panel["fieldConfig"]["defaults"]
    panel["fieldConfig"].setdefault("overrides", [])
    if not defaults.get("thresholds", {}).get("steps"):
        defaults["thresholds"] = {"mode": "absolute", "steps": [{"color": "green"}]}
    overrides = (each for override in panel["fieldConfig"]["overrides"] for each in override["properties"])
    for thresholds in (defaults["thresholds"], *(each["value"] for each in overrides if each["id"] == "thresholds")):
        thresholds["steps"][0]["value"] = None  # the only null that Grafana writes itself: from -Infinity upwards
    _clean_custom(panel["type"], defaults.get("custom", {}))
    legend = panel["options"].get("legend", {})
    if "displayMode" in legend:
        # Grafana adds it in a migration that schema versions from 37 on pass over.
        legend.setdefault("showLegend", legend["displayMode"] != "hidden")


def _clean_custom(kind: str, custom: Json) -> None:
    if kind == "table":
        custom.pop("displayMode", None)
        custom.setdefault("cellOptions", {"type": "auto"})
    if custom.get("stacking") == {}:
        custom["stacking"] = {"group": "A", "mode": "none"}
    scale = custom.get("scaleDistribution", {})
    if scale.get("type") == "linear":
        scale.pop("log", None)


def _drop(keys: Json, names: Iterable[str]) -> None:
    for name in names:
        keys.pop(name, None)


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(each) for key, each in value.items() if each is not None}
    return [_without_nulls(each) for each in value] if isinstance(value, list) else value
