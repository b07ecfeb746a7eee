"""The run as a whole, and the agent itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["RunInfo", "SelfReport"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunInfo:
    """What is known once, at attach: the first record that an exporter sees."""

    run: str
    agent: str
    rank: int | None
    time_unix_seconds: float
    model: str
    num_parameters: int
    """Parameter tensors watched."""
    num_elements: int
    """Scalars in those tensors."""
    layers: tuple[str, ...]
    layer_ranks: Mapping[str, int]
    """Position of each layer group in the order of the model's parameters: the forward order where the two agree."""
    initial_step: int
    initial_epoch: int
    versions: Mapping[str, str]
    settings: Mapping[str, object]
    host: str
    pid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SelfReport:
    """What the agent says of itself, every two seconds or so; counters count from attach."""

    run: str
    agent: str
    rank: int | None
    time_unix_seconds: float
    overhead_ratio: float | None
    """Our CPU time (hooks, worker, server) over the loop's own time, None before the first step."""
    overhead_seconds: Mapping[str, float]
    """By part: hooks, worker, server."""
    dropped_reports: int
    internal_errors: Mapping[str, int]
    """By part."""
    disabled_parts: tuple[str, ...]
    sample_interval_steps: int
    """Every how many steps a GradientSample is taken."""
    process_memory_bytes: int | None
    process_cpu_seconds: float | None
