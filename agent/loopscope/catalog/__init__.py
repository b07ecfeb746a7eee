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
    LOSS_SOURCES,
    MAX_FRAMES,
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
    "LOSS_SOURCES",
    "MAX_FRAMES",
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
]


def metric(name: str) -> Metric:
    """Return the metric with this OpenTelemetry name; KeyError names what exists."""
    for candidate in METRICS:
        if candidate.name == name:
            return candidate
    raise KeyError(f"no metric {name!r} in the catalog; there are {[m.name for m in METRICS]}")
