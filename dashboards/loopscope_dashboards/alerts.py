"""Alerts: one for each kind of anomaly, which only follows its detector, and those on the run itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from loopscope.catalog import EventKind

from .kinds import TEXTS, KindText, alerted_kinds
from .recordings import RECENT, RECENT_LAYERS
from .settings import RuleSettings, duration

__all__ = ["Alert", "alert_name", "kind_alerts", "run_alerts"]

_AGENT = "job=%[1]q,instance=%[2]q,agent=%[3]q,rank=%[4]q"
_WHO = "{{ $labels.agent }}{{ with $labels.rank }} (rank {{ . }}){{ end }} on {{ $labels.instance }}"
_WHERE = "{{ $labels.instance }}{{ with $labels.rank }} (rank {{ . }}){{ end }}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """One alert; `rule` adds its runbook, so that none is without."""

    name: str
    expression: str
    severity: str
    summary: str
    """One sentence without values."""
    description: str
    """Says which run, rank and layer; never the raw value of an `increase`, which is no whole number."""
    hold_seconds: float = 0.0
    """How long the condition holds before the alert fires; 0 where a detector has waited already."""
    annotations: Mapping[str, str] = field(default_factory=dict)

    def rule(self, settings: RuleSettings) -> dict[str, Any]:
        """Return it as Prometheus reads it."""
        hold = {"for": duration(self.hold_seconds)} if self.hold_seconds else {}
        return {
            "alert": self.name,
            "expr": self.expression,
            **hold,
            "keep_firing_for": duration(settings.keep_firing_seconds),
            "labels": {"severity": self.severity},
            "annotations": {
                "summary": self.summary,
                "description": self.description,
                **self.annotations,
                "runbook_url": f"{settings.runbook_base_url}{self.name.lower()}.md",
            },
        }


def alert_name(kind: str) -> str:
    """Return `LoopscopeNonfiniteGradient` of `nonfinite_gradient`."""
    return "Loopscope" + "".join(part.capitalize() for part in kind.split("_"))


def kind_alerts(settings: RuleSettings) -> Iterator[Alert]:
    """Yield the alert of each kind of the catalog, then one for the kinds of detectors that others wrote.

    An alert is of an agent and a kind. Its layers are annotations, looked up when it is evaluated, and not labels: an
    anomaly that moves from one layer to the next stays one alert, of which nobody is told twice, and where more are
    open than `loopscope_incident_info` has room for the alert is there without its layer, but it is there.
    """
    kinds = alerted_kinds()
    for kind in kinds:
        if kind.name == "probe_disabled":
            yield _probe_disabled(TEXTS[kind.name])
        else:
            yield _of_kind(kind, TEXTS[kind.name], settings)
    known = "|".join(kind.name for kind in kinds)
    yield Alert(
        name="LoopscopeCustomAnomaly",
        expression=f'{RECENT}{{kind!~"{known}"}}',
        severity="warning",
        summary="A detector that is not loopscope's own has found an anomaly.",
        description=f"{_WHO}: {{{{ $labels.kind }}}}. See the event of this kind in the run's log.",
    )


def run_alerts(settings: RuleSettings) -> Iterator[Alert]:
    """Yield the alerts on the run itself: whether it goes on, can be scraped, and is seen as a whole."""
    yield _stalled(settings)
    yield Alert(
        name="LoopscopeNoFirstStep",
        expression="max without (agent, optimizer) (loopscope_steps_total) == 0\nunless on (job, instance) up == 0",
        hold_seconds=settings.first_step_seconds,
        severity="warning",
        summary="A run was attached long ago and has not taken its first step.",
        description=f"{_WHERE}: look at what the process waits for (py-spy dump), at all ranks if there are several.",
    )
    memory = duration(settings.target_memory_seconds)
    yield Alert(
        name="LoopscopeTargetDown",
        expression=f"up == 0\nand on (job, instance)\nlast_over_time(loopscope_run_info[{memory}])",
        hold_seconds=settings.target_down_seconds,
        severity="warning",
        summary="A training run that was scraped cannot be reached any more.",
        description=f"{_WHERE}: the process has crashed or hangs, its host is gone, or the run ended and its target "
        "was not taken out of Prometheus.",
    )
    yield _dropped_reports(settings)


def _of_kind(kind: EventKind, text: KindText, settings: RuleSettings) -> Alert:
    label, where, place = _of_line(text, settings) if text.counter else _of_layers()
    return Alert(
        name=alert_name(kind.name),
        expression=f'{RECENT}{{kind="{kind.name}"}}',
        hold_seconds=settings.line_seconds if text.waits else 0.0,
        severity="critical" if kind.severity == "critical" else "warning",
        summary=text.summary,
        description=f"{_WHO}{where}: {text.action}",
        annotations={label: place},
    )


def _of_layers() -> tuple[str, str, str]:
    """Return the annotation's name, its part of the description, and itself: the layers, which may be several."""
    layers = _query(f"{RECENT_LAYERS}{{{_AGENT},kind=%[5]q}}", "$labels.kind") + " | sortByLabel `layer`"
    found = "{{ range $index, $found := . }}{{ if $index }}, {{ end }}{{ $found.Labels.layer }}{{ end }}{{ end }}"
    return "layer", f"{{{{ with {layers} }}}}, layer {found}", f"{{{{ with {layers} }}}}{found}"


def _of_line(text: KindText, settings: RuleSettings) -> tuple[str, str, str]:
    """Return the same of the line or the frame that did it most often."""
    places = _query(_busiest(text, settings))
    found = f"{{{{ (. | first).Labels.{text.place} }}}}{{{{ end }}}}"
    return text.place, f"{{{{ with {places} }}}}, at {found}", f"{{{{ with {places} }}}}{found}"


def _busiest(text: KindText, settings: RuleSettings) -> str:
    """Return the line or frame that is new, or else that counted most of late, or else before the process went.

    What is new shows 0 at its first scrape, though it has counted: it is what the anomaly is about.
    """
    recent = duration(settings.recent_seconds)
    matchers = f'{_AGENT},severity!="info"' if text.counter == "loopscope_inplace_conflicts_total" else _AGENT
    counts = f"{text.counter}{{{matchers}}}"
    looks = (f"{counts}) == 0", f"increase({counts}[{recent}])) > 0", f"last_over_time({counts}[{recent}]))")
    return " or on () ".join(f"topk(1, sum by ({text.place}) ({look})" for look in looks)


def _query(expression: str, *values: str) -> str:
    labels = " ".join((*(f"$labels.{name}" for name in ("job", "instance", "agent", "rank")), *values))
    return f"printf `{expression}` {labels} | query"


def _probe_disabled(text: KindText) -> Alert:
    return Alert(
        name=alert_name("probe_disabled"),
        expression="loopscope_disabled_parts > 0",
        severity="warning",
        summary=text.summary,
        description=f"{_WHO}, {{{{ $value }}}} switched off: {text.action}",
    )


def _stalled(settings: RuleSettings) -> Alert:
    """No agent of a process takes steps, by Prometheus's clock and by what it has scraped: clocks may differ.

    A target that is gone has no series. `unless` and not `and` where something may be unknown: the first step has no
    duration, a federated series no `up`.
    """
    window = duration(settings.stalled_seconds)
    latest = "max without (agent, optimizer) (loopscope_last_step_timestamp_seconds)"
    changes = f"max without (agent, optimizer) (changes(loopscope_last_step_timestamp_seconds[{window}]))"
    mean = "loopscope_step_duration_seconds_sum / (loopscope_step_duration_seconds_count > 0)"
    return Alert(
        name="LoopscopeRunStalled",
        expression=f"time() - {latest} > {settings.stalled_seconds:g}\n"
        f"unless\n{changes} > 0\n"
        f"unless\ntime() - {latest} < {settings.stalled_steps:g} * max without (agent, optimizer) ({mean})\n"
        "unless on (job, instance)\nup == 0",
        severity="critical",
        summary="A run takes no steps any more though its process is there.",
        description=f"{_WHERE} has taken no step for {{{{ humanizeDuration $value }}}}: look at what the process waits "
        "for (py-spy dump), at all ranks if there are several.",
    )


def _dropped_reports(settings: RuleSettings) -> Alert:
    window = duration(settings.dropped_window_seconds)
    return Alert(
        name="LoopscopeDroppedReports",
        expression=f"increase(loopscope_dropped_reports_total[{window}])\n/\n"
        f"sum without (optimizer) (increase(loopscope_steps_total[{window}]))\n> {settings.dropped_ratio:g}",
        hold_seconds=settings.dropped_window_seconds / 2,
        severity="warning",
        summary="Many steps go unreported, as loopscope cannot keep up.",
        description=f"{_WHO}: {{{{ humanizePercentage $value }}}} of the steps. Training is not harmed and counts are "
        "kept; detectors see less.",
    )
