"""Records made up for tests: every field has a plausible value, the interesting ones are arguments.

Shape legend: P parameters, G layer groups, B exponent bins.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from loopscope.catalog import ACTIVITY_METRICS
from loopscope.records import (
    NUM_EXPONENT_BINS,
    ActivityReport,
    Anomaly,
    EpochReport,
    Event,
    GradientSample,
    GradientTable,
    HealthReport,
    LayerState,
    LayerStatistics,
    RunInfo,
    SelfReport,
    StepReport,
)

__all__ = [
    "TIME",
    "activity_report",
    "anomaly",
    "epoch_report",
    "event",
    "gradient_sample",
    "gradient_table",
    "health_report",
    "layer_statistics",
    "run_info",
    "self_report",
    "step_report",
]

TIME = 1_750_000_000.0
"""Unix time of step 0; a step takes 0.1 s."""
LAYERS = ("encoder", "head")


def run_info(*, layers: Sequence[str] = LAYERS, **changes: Any) -> RunInfo:
    """Return what an agent says at attach."""
    values: dict[str, Any] = {
        "run": "run-1",
        "agent": "model",
        "rank": None,
        "time_unix_seconds": TIME,
        "model": "Sequential",
        "num_parameters": 2 * len(layers),
        "num_elements": 1_000,
        "layers": tuple(layers),
        "layer_ranks": {layer: index for index, layer in enumerate(layers)},
        "initial_step": 0,
        "initial_epoch": 0,
        "versions": {"torch": "2.13.0", "python": "3.11.7", "loopscope": "0.1.0"},
        "settings": {"port": 9464, "exporters": ()},
        "host": "localhost",
        "pid": 1,
    }
    return RunInfo(**values | changes)


def gradient_table(
    norms: Sequence[float] | npt.NDArray[np.float64] = (3.0, 4.0, 6.0, 8.0),
    *,
    layers: Sequence[str] = LAYERS,
    num_nonfinite: Sequence[int] | None = None,
    sample: GradientSample | None = None,
    **changes: Any,
) -> GradientTable:
    """Return a table whose parameters are spread evenly over `layers`; the norms of layers and model follow.

    A layer's norm leaves out NaN where the count of non-finite elements says that there was no gradient.
    """
    norms_P = np.asarray(norms, dtype=np.float64)
    num_parameters, num_layers = len(norms_P), len(layers)
    counts_P = np.asarray(num_nonfinite if num_nonfinite is not None else [0] * num_parameters, dtype=np.int64)
    index_P = np.arange(num_parameters) * num_layers // num_parameters
    has_gradient_P = ~np.isnan(norms_P) | (counts_P > 0)
    layer_norms_G = np.array(
        [
            np.sqrt(np.sum(norms_P[rows] ** 2)) if (rows := has_gradient_P & (index_P == layer)).any() else np.nan
            for layer in range(num_layers)
        ]
    )
    values: dict[str, Any] = {
        "layers": tuple(layers),
        "names": tuple(f"{layers[layer]}.{row}.weight" for row, layer in enumerate(index_P.tolist())),
        "layer_index_P": index_P,
        "norms": norms_P,
        "layer_norms": layer_norms_G,
        "global_norm": float(np.sqrt(np.sum(norms_P[has_gradient_P] ** 2))) if has_gradient_P.any() else float("nan"),
        "global_norm_pre_clip": None,
        "num_nonfinite": counts_P,
        "is_nonfinite_count_exact": True,
        "sample": sample,
    }
    return GradientTable(**values | changes)


def gradient_sample(num_parameters: int = 4, num_layers: int = 2, **changes: Any) -> GradientSample:
    """Return a sample with distinct values; the histogram is empty unless given."""
    rows_P, rows_G = np.arange(1.0, num_parameters + 1), np.arange(1.0, num_layers + 1)
    values: dict[str, Any] = {
        "is_exact_P": np.ones(num_parameters, dtype=np.bool_),
        "num_sampled_P": np.full(num_parameters, 100, dtype=np.int64),
        "max_abs_P": rows_P * 0.5,
        "mean_P": rows_P * 0.01,
        "zero_ratio_P": rows_P / 1_000,
        "subnormal_ratio_P": rows_P / 10_000,
        "weight_norms_P": rows_P * 2.0,
        "update_ratios_P": rows_P * 1e-3,
        "max_abs_G": rows_G * 0.5,
        "zero_ratio_G": rows_G / 1_000,
        "weight_norms_G": rows_G * 2.0,
        "update_ratios_G": rows_G * 1e-3,
        "histogram_GB": np.zeros((num_layers, NUM_EXPONENT_BINS), dtype=np.int64),
        "sum_abs": 0.0,
    }
    return GradientSample(**values | changes)


def step_report(step: int = 0, **changes: Any) -> StepReport:
    """Return the report of a step that was taken; give `skipped` for one that was not."""
    skipped = changes.get("skipped")
    values: dict[str, Any] = {
        "run": "run-1",
        "agent": "model",
        "rank": None,
        "optimizer": None,
        "step": step,
        "epoch": 0,
        "micro_steps": 1,
        "time_unix_seconds": TIME + 0.1 * step,
        "duration_seconds": 0.1,
        "phases": {"data_wait": 0.01, "forward": 0.03, "backward": 0.05, "optimizer": 0.008, "other": 0.002},
        "phases_clock": "host",
        "loss": 2.5,
        "loss_source": "backward",
        "samples": 32,
        "tokens": None,
        "learning_rates": (0.1,),
        "gradients": gradient_table(),
        "num_samples": 32,
        "num_steps": 0 if skipped else 1,
        "num_skipped": {skipped: 1} if skipped else {},
    }
    return StepReport(**values | changes)


def layer_statistics(layers: Sequence[str] = LAYERS, **changes: Any) -> LayerStatistics:
    """Return statistics of an epoch, distinct for each layer and statistic."""
    rows_G = np.arange(1.0, len(layers) + 1)
    values: dict[str, Any] = {
        "layers": tuple(layers),
        "mean": rows_G * 5,
        "max": rows_G * 9,
        "min": rows_G * 1,
        "p50": rows_G * 4,
        "p95": rows_G * 8,
        "num_steps": np.full(len(layers), 10, dtype=np.int64),
        "num_nonfinite_steps": np.zeros(len(layers), dtype=np.int64),
        "zero_ratio": rows_G / 100,
        "num_sampled_steps": 2,
        "health": ("healthy",) * len(layers),
        "health_rule": ("",) * len(layers),
        "trend": rows_G / 2,
    }
    return LayerStatistics(**values | changes)


def epoch_report(epoch: int = 0, **changes: Any) -> EpochReport:
    """Return the report of an epoch of ten steps."""
    values: dict[str, Any] = {
        "run": "run-1",
        "agent": "model",
        "rank": None,
        "optimizer": None,
        "kind": "epoch",
        "epoch": epoch,
        "window": None,
        "first_step": 10 * epoch,
        "last_step": 10 * epoch + 9,
        "num_steps": 10,
        "num_reports": 10,
        "num_skipped": {},
        "num_micro_steps": 10,
        "num_samples": 320,
        "duration_seconds": 1.5,
        "time_unix_seconds": TIME + epoch + 1.0,
        "loss": 1.25,
        "loss_weighting": "samples",
        "num_nonfinite_losses": 0,
        "global_norm": {"mean": 5.0, "max": 9.0, "min": 1.0, "p50": 4.0, "p95": 8.0},
        "num_nonfinite_steps": 0,
        "gradients": layer_statistics(),
        "quantiles_are_exact": True,
    }
    return EpochReport(**values | changes)


def event(kind: str = "nonfinite_gradient", severity: str = "critical", step: int = 0, **changes: Any) -> Event:
    """Return an event at a layer."""
    values: dict[str, Any] = {
        "kind": kind,
        "severity": severity,
        "step": step,
        "epoch": 0,
        "message": "The gradient of the layer became NaN.",
        "remedy": "Lower the learning rate.",
        "layer": "encoder",
        "run": "run-1",
        "agent": "model",
        "time_unix_seconds": TIME + 0.1 * step,
    }
    return Event(**values | changes)


def anomaly(kind: str = "nonfinite_gradient", severity: str = "critical", **changes: Any) -> Anomaly:
    """Return an anomaly that is open since step 1, in the layer `head`."""
    values: dict[str, Any] = {"kind": kind, "severity": severity, "optimizer": None, "step": 1, "layers": ("head",)}
    return Anomaly(**values | changes)


def health_report(*anomalies: Anomaly, **changes: Any) -> HealthReport:
    """Return what is open at step 1; layers are put into the state `nonfinite`, unless given."""
    layers: dict[str | None, dict[str, LayerState]] = {}
    for each in anomalies:
        states = {layer: LayerState(state="nonfinite", rule=each.kind) for layer in each.layers}
        layers[each.optimizer] = layers.get(each.optimizer, {}) | states
    values: dict[str, Any] = {
        "run": "run-1",
        "agent": "model",
        "rank": None,
        "time_unix_seconds": TIME + 0.1,
        "step": 1,
        "anomalies": anomalies,
        "layers": layers,
    }
    return HealthReport(**values | changes)


def self_report(**changes: Any) -> SelfReport:
    """Return what an agent says of itself."""
    values: dict[str, Any] = {
        "run": "run-1",
        "agent": "model",
        "rank": None,
        "time_unix_seconds": TIME,
        "overhead_ratio": 0.008,
        "overhead_seconds": {"hooks": 0.5, "worker": 0.25, "server": 0.125},
        "dropped_reports": 3,
        "internal_errors": {"gradients": 1, "jsonl": 0},
        "disabled_parts": ("syncs",),
        "sample_interval_steps": 10,
        "process_memory_bytes": 1_000_000,
        "process_cpu_seconds": 12.5,
    }
    return SelfReport(**values | changes)


def activity_report(
    counters: Mapping[str, Mapping[tuple[str, ...], float]] | None = None, **changes: Any
) -> ActivityReport:
    """Return counters of lines and frames; by default each metric of them has one combination of labels, at 2."""
    values: dict[str, Any] = {
        "run": "run-1",
        "agent": "model",
        "rank": None,
        "time_unix_seconds": TIME,
        "step": 1,
        "counters": {
            entry.name: {
                (*["train.py:1"] * len(entry.labels),)[: len(entry.labels) - bool(entry.values)] + entry.values[:1]: 2.0
            }
            for entry in ACTIVITY_METRICS
        }
        if counters is None
        else counters,
    }
    return ActivityReport(**values | changes)
