"""What an entry of the catalog is, and the bounds and closed lists of its labels.

Names are OpenTelemetry names with UCUM units; `Metric.prometheus_name` is their standard translation
(https://github.com/open-telemetry/opentelemetry-specification/blob/main/specification/compatibility/prometheus_and_openmetrics.md).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from ..records import HEALTH_STATES

__all__ = [
    "ALLOCATOR_EVENTS",
    "BREAK_REASONS",
    "CLIP_STAGES",
    "CONSTANT_LABELS",
    "EPOCH_STATISTICS",
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
    "OTHER",
    "OVERHEAD_PARTS",
    "PHASES",
    "RECOMPILE_REASONS",
    "SEVERITIES",
    "SKIP_REASONS",
    "SYNC_KINDS",
    "EventKind",
    "Metric",
    "per_optimizer",
]

MAX_LAYERS = 64
"""Upper bound of the label `layer`: layer groups of one agent."""
MAX_OPTIMIZERS = 4
"""Optimizers with their own value of the label `optimizer`; further ones are joined under one more, `other`."""
MAX_SERIES = 2_000
"""Upper bound of the series of one agent (one rank)."""
MAX_PARTS = 48
"""Upper bound of the label `part` (probes, exporters, worker, ...)."""
MAX_SITES = 50
"""Source lines with series of their own in one metric, the closed labels beside them included; the rest is `other`."""
MAX_ACTIVATIONS = 16
"""Upper bound of the label `activation`: groups of activation modules."""
MAX_FRAMES = 32
"""Compiled frames, likewise."""
MAX_KINDS = 48
"""Kinds of events: those of the catalog, and some of detectors that others wrote."""
MAX_INCIDENTS = 16
"""Open anomalies with a series of their own."""
OTHER = "other"
"""Value of an open label that the values beyond the bound share."""

CONSTANT_LABELS = ("agent", "rank", "optimizer")
"""`agent` is always there, `rank` when distributed, `optimizer` when an agent watches several."""
PHASES = ("data_wait", "forward", "backward", "optimizer", "other")
SKIP_REASONS = ("grad_scaler", "manual")
CLIP_STAGES = ("pre_clip", "post_clip")
EPOCH_STATISTICS = ("mean", "max", "min", "p50", "p95")
LOSS_SOURCES = ("backward", "log")
OVERHEAD_PARTS = ("hooks", "worker", "server")
SYNC_KINDS = (
    "item",
    "bool",
    "float",
    "int",
    "complex",
    "tolist",
    "numpy",
    "cpu",
    "print",
    "format",
    "synchronize",
    "copy",
    "mask",
    "nonzero",
    "unique",
    "masked_select",
    "operator",
)
"""How the host came to wait; `mask` is indexing by a boolean mask, `operator` an operator that waits inside."""
ALLOCATOR_EVENTS = ("retry", "sync_all_streams", "free")
RECOMPILE_REASONS = (
    "shape",
    "batch_of_one",
    "dtype",
    "python_scalar",
    "type",
    "global_state",
    "train_eval",
    "memory_layout",
    "requires_grad",
    "list_length",
    "learning_rate",
    "limit",
    "other",
)
"""What had changed since the frame was compiled before."""
BREAK_REASONS = (
    "data_dependent",
    "sync",
    "print",
    "unsupported_call",
    "disabled",
    "context_manager",
    "optimizer_step",
    "other",
)
"""Why torch.compile left the graph."""
SEVERITIES = ("info", "warning", "critical")
"""Of events."""

_UNITS = {"s": "seconds", "By": "bytes", "1": "ratio"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One family: OpenTelemetry name, kind, UCUM unit, help, labels beside the constant ones, bound on series."""

    name: str
    kind: Literal["gauge", "counter", "histogram"]
    unit: str
    help: str
    labels: tuple[str, ...] = ()
    values: tuple[str, ...] = ()
    """The closed list of the last label's values; empty where the list is open (and bounded otherwise)."""
    bound: int = 1
    """Series of one agent at the most, histogram buckets, sum and count included."""
    buckets: tuple[float, ...] = ()
    instead_of: str = ""
    """The metric that it stands in for: an agent has series of one of the two only."""
    is_opt_in: bool = False
    """Whether it has series only where a setting asks for them, beyond the bound of all others together."""
    since: str = "0.1"

    @property
    def prometheus_name(self) -> str:
        """The family's name in Prometheus, counters with `_total`."""
        tokens = [token for token in re.split(r"[^a-zA-Z0-9]+", self.name) if token]
        unit = _UNITS.get(self.unit, "")
        if unit == "ratio" and self.kind != "gauge":
            unit = ""
        if unit == "ratio":
            tokens = [*(token for token in tokens if token != "ratio"), "ratio"]
        elif unit and unit not in tokens:
            tokens.append(unit)
        if self.kind == "counter":
            tokens = [*(token for token in tokens if token != "total"), "total"]
        return "_".join(tokens)


@dataclass(frozen=True, slots=True, kw_only=True)
class EventKind:
    """One kind of event: what it means and the severity it usually has."""

    name: str
    severity: Literal["info", "warning", "critical"]
    help: str


def per_optimizer(count: int = 1) -> int:
    """Return the series of a metric that each optimizer has, `count` of them, with those of `other`."""
    return (MAX_OPTIMIZERS + 1) * count
