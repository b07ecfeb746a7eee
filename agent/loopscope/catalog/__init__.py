"""Every metric and kind of event, declared once: exporters, dashboards, rules and docs/metrics.md read it here."""

from __future__ import annotations

from .activity import ACTIVITY_METRICS
from .events import EVENT_KINDS
from .families import (
    ALLOCATOR_EVENTS,
    BREAK_REASONS,
    CLIP_STAGES,
    CONSTANT_LABELS,
    EPOCH_STATISTICS,
    HEALTH_STATES,
    LOSS_SOURCES,
    MAX_ACTIVATIONS,
    MAX_FRAMES,
    MAX_INCIDENTS,
    MAX_KINDS,
    MAX_LAYERS,
    MAX_OPTIMIZERS,
    MAX_PARTS,
    MAX_SERIES,
    MAX_SITES,
    OTHER,
    OVERHEAD_PARTS,
    PHASES,
    RECOMPILE_REASONS,
    SEVERITIES,
    SKIP_REASONS,
    SYNC_KINDS,
    EventKind,
    Metric,
)
from .metrics import METRICS

__all__ = [
    "ACTIVITY_METRICS",
    "ALLOCATOR_EVENTS",
    "BREAK_REASONS",
    "CLIP_STAGES",
    "CONSTANT_LABELS",
    "EPOCH_STATISTICS",
    "EVENT_KINDS",
    "HEALTH_STATES",
    "LOSS_SOURCES",
    "MAX_ACTIVATIONS",
    "MAX_FRAMES",
    "MAX_INCIDENTS",
    "MAX_KINDS",
    "MAX_LAYERS",
    "MAX_OPTIMIZERS",
    "MAX_PARTS",
    "MAX_SERIES",
    "MAX_SITES",
    "METRICS",
    "OTHER",
    "OVERHEAD_PARTS",
    "PHASES",
    "RECOMPILE_REASONS",
    "SEVERITIES",
    "SKIP_REASONS",
    "SYNC_KINDS",
    "EventKind",
    "Metric",
    "metric",
    "series_bound",
]


def metric(name: str) -> Metric:
    """Return the metric with this OpenTelemetry name; KeyError names what exists."""
    for candidate in METRICS:
        if candidate.name == name:
            return candidate
    raise KeyError(f"no metric {name!r} in the catalog; there are {[m.name for m in METRICS]}")


def series_bound() -> int:
    """Return the series that one agent has at the most: of metrics that stand in for each other one counts.

    Those that a setting has to ask for come on top.
    """
    return sum(entry.bound for entry in METRICS if not (entry.instead_of or entry.is_opt_in))
