"""Every metric and kind of event, declared once: exporters, dashboards, rules and docs/metrics.md read it here."""

from __future__ import annotations

from .events import EVENT_KINDS
from .families import (
    CLIP_STAGES,
    CONSTANT_LABELS,
    EPOCH_STATISTICS,
    LOSS_SOURCES,
    MAX_LAYERS,
    MAX_OPTIMIZERS,
    MAX_PARTS,
    MAX_SERIES,
    OVERHEAD_PARTS,
    PHASES,
    SKIP_REASONS,
    EventKind,
    Metric,
)
from .metrics import METRICS

__all__ = [
    "CLIP_STAGES",
    "CONSTANT_LABELS",
    "EPOCH_STATISTICS",
    "EVENT_KINDS",
    "LOSS_SOURCES",
    "MAX_LAYERS",
    "MAX_OPTIMIZERS",
    "MAX_PARTS",
    "MAX_SERIES",
    "METRICS",
    "OVERHEAD_PARTS",
    "PHASES",
    "SKIP_REASONS",
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
