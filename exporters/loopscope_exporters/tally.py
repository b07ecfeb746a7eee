"""The counters and latest reports of one optimizer, fed step by step.

Shape legend: B exponent bins (see loopscope.records), U histogram buckets.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from typing import TypeVar

import numpy as np

from loopscope.catalog import PHASES, SKIP_REASONS, metric
from loopscope.records import (
    EXPONENT_LOW,
    NUM_EXPONENT_BINS,
    EpochReport,
    GradientSample,
    GradientTable,
    Integers,
    StepReport,
)

from .points import Exemplar

__all__ = ["Tally"]

_N = TypeVar("_N", int, float)
_DURATION_BOUNDS = metric("loopscope.step.duration").buckets
_MAGNITUDE_BOUNDS = metric("loopscope.gradient.magnitude").buckets


class Tally:
    """What one optimizer has done since attach; not thread-safe, its owner holds the lock.

    `latest` is the latest report; `gradients` and `sampled` are the latest tables with norms and with a sample, and
    `last_step_time` belongs to the latest step that was not skipped.
    """

    __slots__ = (
        "_magnitude_bins_B",
        "duration_counts",
        "duration_exemplars",
        "duration_sum",
        "epoch",
        "gradients",
        "last_step_time",
        "latest",
        "magnitude_sum",
        "num_micro_steps",
        "num_nonfinite",
        "num_samples",
        "num_skipped",
        "num_steps",
        "num_tokens",
        "phase_seconds",
        "sampled",
    )

    def __init__(self, layers: Iterable[str] = ()) -> None:
        self.num_steps = 0
        self.num_micro_steps = 0
        self.num_samples: int | None = None
        self.num_tokens: int | None = None
        self.num_skipped: dict[str, int] = dict.fromkeys(SKIP_REASONS, 0)
        self.num_nonfinite: dict[str, int] = dict.fromkeys(layers, 0)
        self.phase_seconds: dict[str, float] = dict.fromkeys(PHASES, 0.0)
        self.duration_counts = [0] * (len(_DURATION_BOUNDS) + 1)
        self.duration_sum = 0.0
        self.duration_exemplars: dict[int, Exemplar] = {}
        self.magnitude_sum = 0.0
        self._magnitude_bins_B: Integers | None = None
        self.latest: StepReport | None = None
        self.gradients: GradientTable | None = None
        self.sampled: GradientTable | None = None
        self.last_step_time: float | None = None
        self.epoch: EpochReport | None = None

    def add(self, report: StepReport) -> None:
        """Count one report in."""
        self.num_steps += report.num_steps
        self.num_micro_steps += report.num_micro_steps
        if report.num_samples or report.samples is not None:
            self.num_samples = (self.num_samples or 0) + report.num_samples
        if report.num_tokens or report.tokens is not None:
            self.num_tokens = (self.num_tokens or 0) + report.num_tokens
        _add_to(self.num_skipped, report.num_skipped)
        _add_to(self.phase_seconds, report.phases)
        if report.skipped is None:
            self._add_taken(report)
        if report.gradients is not None:
            self._add_gradients(report.gradients)
        self.latest = report

    @property
    def magnitude_counts(self) -> list[int] | None:
        """[U + 1] sampled elements by bucket, the last above all bounds; None before the first sample.

        An element that equals a bound counts in the bucket above it: bins are half-open, [2**k, 2**(k + 1)).
        """
        if self._magnitude_bins_B is None:
            return None
        below = np.concatenate(([0], np.cumsum(self._magnitude_bins_B)))
        # The bins up to index e - LOW lie wholly below 2**e.
        edges = [round(np.log2(bound)) - EXPONENT_LOW + 1 for bound in _MAGNITUDE_BOUNDS]
        counts: list[int] = np.diff(below[[0, *edges, NUM_EXPONENT_BINS]]).tolist()
        return counts

    def _add_taken(self, report: StepReport) -> None:
        self.last_step_time = report.time_unix_seconds
        if report.duration_seconds is not None:
            bucket = bisect_left(_DURATION_BOUNDS, report.duration_seconds)
            self.duration_counts[bucket] += 1
            self.duration_exemplars[bucket] = Exemplar(report.duration_seconds, report.step, report.time_unix_seconds)
            self.duration_sum += report.duration_seconds

    def _add_gradients(self, table: GradientTable) -> None:
        if self.gradients is None or self.gradients.layers is not table.layers:
            for layer in table.layers:
                self.num_nonfinite.setdefault(layer, 0)
        self.gradients = table
        if table.has_nonfinite:
            counts: list[int] = table.layer_num_nonfinite.tolist()
            for layer, count in zip(table.layers, counts, strict=True):
                self.num_nonfinite[layer] += count
        if table.sample is not None:
            self.sampled = table
            self._add_sample(table.sample)

    def _add_sample(self, sample: GradientSample) -> None:
        bins_B = sample.histogram_GB.sum(axis=0)
        self._magnitude_bins_B = bins_B if self._magnitude_bins_B is None else self._magnitude_bins_B + bins_B
        self.magnitude_sum += sample.sum_abs


def _add_to(totals: dict[str, _N], amounts: Mapping[str, _N]) -> None:
    for name, amount in amounts.items():
        totals[name] = totals.get(name, 0) + amount
