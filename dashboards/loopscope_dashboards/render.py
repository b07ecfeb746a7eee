"""All dashboards as files: JSON that is the same on every machine."""

from __future__ import annotations

import json
from collections.abc import Mapping

from .activations import activations
from .gradients import gradients
from .overview import overview
from .performance import performance
from .ranks import ranks
from .settings import RuleSettings

__all__ = ["dashboard_files"]

_DASHBOARDS = (overview, gradients, performance, ranks, activations)


def dashboard_files(settings: RuleSettings, grafana: str) -> Mapping[str, str]:
    """Return the text of every file by its name, for Grafana `11` or `12`."""
    made = [dashboard(settings, grafana) for dashboard in _DASHBOARDS]
    return {f"{each['uid']}.json": json.dumps(each, indent=2, ensure_ascii=False) + "\n" for each in made}
