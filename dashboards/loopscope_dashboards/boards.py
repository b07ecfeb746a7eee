"""What all dashboards share: variables, annotations, links to each other and to the runbooks."""

from __future__ import annotations

from collections.abc import Iterable

from grafanalib import core

from loopscope.catalog import metric

from .alerts import alert_name
from .colors import NEUTRAL, SERIOUS, WARNING
from .layout import Row, place
from .native import DATA_SOURCE, Json, native
from .queries import grouped, selected

__all__ = ["TAG", "Links", "board"]

TAG = "loopscope"
_LABELS = ("job", "instance", "run", "agent", "rank")
_ON_TIME_RANGE = 2
_NATURAL, _NATURAL_DESCENDING = 7, 8


class Links:
    """Links into the documentation: `runbooks` is the address of docs/runbooks, with a slash at its end."""

    def __init__(self, runbooks: str) -> None:
        self.runbooks = runbooks

    def to(self, *kinds: str) -> list[Json]:
        """Return panel links to the runbooks of some kinds of events."""
        return [
            {"targetBlank": True, "title": f"Runbook: {kind}", "url": f"{self.runbooks}{alert_name(kind).lower()}.md"}
            for kind in kinds
        ]

    @property
    def of_field(self) -> list[Json]:
        """Data links of a table in which the field `runbook` names the page."""
        return [{"targetBlank": True, "title": "Runbook", "url": f"{self.runbooks}${{__data.fields.runbook}}.md"}]


def board(
    *,
    name: str,
    title: str,
    description: str,
    rows: Iterable[Row],
    grafana: str,
    has_one_agent: bool = False,
    needs_rank: bool = False,
    opted_in: str | None = None,
) -> Json:
    """Return a dashboard as JSON.

    `has_one_agent` lets one agent be chosen only, as layers belong to one; `needs_rank` leaves out what has no rank.
    `opted_in` names a metric that only some agents have: no others are there to choose.
    """
    made = core.Dashboard(
        title=f"Loopscope / {title}",
        uid=f"loopscope-{name}",
        description=description,
        tags=[TAG],
        timezone="browser",
        refresh="30s",
        time=core.Time("now-1h", "now"),
        graphTooltip=1,
        editable=True,
        templating=core.Templating(_variables(has_one_agent=has_one_agent, needs_rank=needs_rank, opted_in=opted_in)),
        annotations=core.Annotations(_annotations()),
        links=[
            core.DashboardLink(type="dashboards", title="Loopscope", tags=[TAG], includeVars=True, keepTime=True),
        ],
        panels=place(rows),
    )
    return native(made, grafana)


def _variables(*, has_one_agent: bool, needs_rank: bool, opted_in: str | None) -> list[object]:
    made: list[object] = [
        core.Template(name="datasource", type="datasource", query="prometheus", label="Data source", refresh=1)
    ]
    for index, label in enumerate(_LABELS):
        # Ranks do not depend on the agent: an agent without ranks beside one with them would leave none to choose.
        above, series = _LABELS[: min(index, 3)], metric("loopscope.run.info")
        if label == "agent" and opted_in is not None:
            above, series = tuple(each for each in above if each != "run"), metric(opted_in)
        matchers = [f'{each}=~"${each}"' for each in above]
        is_single = label == "agent" and has_one_agent
        # A process without ranks has no such label, and a matcher that wants a character would not find it.
        may_lack = label == "rank" and not needs_rank
        made.append(
            core.Template(
                name=label,
                label=label.capitalize(),
                type="query",
                query=f"label_values({series.prometheus_name}{{{','.join(matchers)}}}, {label})",
                dataSource=DATA_SOURCE,
                multi=not is_single,
                includeAll=not is_single,
                allValue=None if is_single else ".*" if may_lack else ".+",
                refresh=_ON_TIME_RANGE,
                sort=_NATURAL_DESCENDING if label == "run" else _NATURAL,
            )
        )
    return made


def _annotations() -> list[Json]:
    builtin = {
        "builtIn": 1,
        "datasource": {"type": "grafana", "uid": "-- Grafana --"},
        "enable": True,
        "hide": True,
        "iconColor": "rgba(0, 211, 255, 1)",
        "name": "Annotations & Alerts",
        "type": "dashboard",
    }
    anomalies = selected("loopscope.anomalies", 'kind!="recompilation"')
    again = selected("loopscope.recompilations")
    return [
        builtin,
        _annotation("Epochs", _new_epochs(), NEUTRAL, "New epoch", "{{agent}} {{optimizer}}"),
        _annotation(
            "Anomalies", _increased("kind", anomalies), SERIOUS, "{{kind}}", "{{kind}}: see the table of anomalies"
        ),
        _annotation(
            "Recompilations", _increased("frame, reason", again), WARNING, "Recompiled: {{reason}}", "{{frame}}"
        ),
    ]


def _new_epochs() -> str:
    """Moments at which the epoch is another than one interval before, which Grafana sets to what it draws.

    Epochs shorter than two intervals have none: marks without a gap are joined, and would cover the page.
    """
    labels = "agent, optimizer"
    now, before = (grouped("max", labels, selected("loopscope.epoch") + ago) for ago in ("", " offset $__interval"))
    duration = grouped("max", labels, selected("loopscope.epoch.duration"))
    return f"{now} != {before} and on ({labels}) ({duration} > $__interval_ms / 500)"


def _increased(labels: str, series: str) -> str:
    """Moments at which a counter is higher; `increase` would go on for its window."""
    return f"{grouped('sum', labels, series)} > {grouped('sum', labels, f'{series} offset $__interval')}"


def _annotation(name: str, expression: str, color: str, title: str, text: str) -> Json:
    return {
        "datasource": DATA_SOURCE,
        "enable": True,
        "expr": expression,
        "hide": False,
        "iconColor": color,
        "name": name,
        "textFormat": text,
        "titleFormat": title,
    }
