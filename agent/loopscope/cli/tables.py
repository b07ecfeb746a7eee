"""Epoch reports as plain-text tables: gradient norms by epoch and layer, and each layer over the whole run."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..records import ActivityReport, EpochReport

__all__ = ["epoch_table", "layer_table", "sync_table"]

_GAP = "  "


def epoch_table(reports: Sequence[EpochReport]) -> str:
    """Return a row an epoch: its loss, its global norm, and the mean gradient norm of each layer over its steps."""
    layers = _layers(reports)
    header = ["epoch", "steps", "loss", "global", *layers, "non-finite"]
    rows = [
        [
            str(report.epoch) if report.window is None else f"{report.epoch}.{report.window}",
            str(report.num_steps),
            _number(report.loss),
            _number(report.global_norm.get("mean")),
            *(_number(_of_layer(report, layer, "mean")) for layer in layers),
            str(report.num_nonfinite_steps),
        ]
        for report in reports
    ]
    return _table([header, *rows])


def layer_table(reports: Sequence[EpochReport]) -> str:
    """Return a row a layer: its gradient norm over all reported steps, non-finite steps and the share of zeros."""
    header = ["layer", "mean norm", "smallest", "largest", "in epoch", "non-finite steps", "zero gradients"]
    rows = [_layer_row(layer, [report for report in reports if report.gradients]) for layer in _layers(reports)]
    return _table([header, *rows])


def sync_table(report: ActivityReport) -> str:
    """Return a row a line and kind of sync, the most frequent first: how often the host waited there, and how long."""
    seconds = report.counters.get("loopscope.device.sync", {})
    counts = report.counters.get("loopscope.device.syncs", {})
    ranked = sorted(counts.items(), key=lambda entry: -entry[1])
    rows = [[site, kind, f"{count:,.0f}", f"{seconds[site, kind]:.4f}"] for (site, kind), count in ranked]
    return _table([["line", "waits by", "times", "seconds"], *rows])


def _layer_row(layer: str, reports: Sequence[EpochReport]) -> list[str]:
    columns = {
        column: np.array([_of_layer(report, layer, column) for report in reports])
        for column in ("mean", "min", "max", "num_steps", "num_nonfinite_steps", "zero_ratio")
    }
    is_known = np.isfinite(columns["mean"])
    largest = np.where(is_known, columns["max"], -np.inf)
    num_steps = np.where(is_known, columns["num_steps"], 0.0)
    zero_ratio = columns["zero_ratio"][np.isfinite(columns["zero_ratio"])]
    if not is_known.any():
        return [layer, *["-"] * 4, f"{np.nansum(columns['num_nonfinite_steps']):.0f}", "-"]
    return [
        layer,
        _number(float(np.nansum(columns["mean"] * num_steps) / num_steps.sum())),
        _number(float(np.nanmin(columns["min"]))),
        _number(float(largest.max())),
        str(reports[int(largest.argmax())].epoch),
        f"{np.nansum(columns['num_nonfinite_steps']):.0f}",
        f"{zero_ratio.mean():.1%}" if zero_ratio.size else "-",
    ]


def _layers(reports: Sequence[EpochReport]) -> list[str]:
    return list(dict.fromkeys(layer for report in reports if report.gradients for layer in report.gradients.layers))


def _of_layer(report: EpochReport, layer: str, column: str) -> float:
    statistics = report.gradients
    if statistics is None or layer not in statistics.layers:
        return float("nan")
    return float(getattr(statistics, column)[statistics.layers.index(layer)])


def _number(value: float | None) -> str:
    return "-" if value is None or np.isnan(value) else f"{value:.4g}"


def _table(rows: Sequence[Sequence[str]]) -> str:
    """Return columns as wide as their widest cell, the first to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [_GAP.join(map(_align, range(len(row)), row, widths)) for row in rows]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def _align(column: int, cell: str, width: int) -> str:
    return cell.rjust(width) if column else cell.ljust(width)
