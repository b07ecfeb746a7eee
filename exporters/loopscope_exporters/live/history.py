"""The steps of one optimizer since attach, in a bounded number of spans: what a page draws over time.

Shape legend: K steps, G layers, S spans.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from loopscope.catalog import MAX_LAYERS, PHASES
from loopscope.records import Floats, GradientTable, Integers, StepReport

from .spans import Spans, SpanTable

__all__ = ["History", "Slice"]

MAX_NAMES = 2 * MAX_LAYERS
"""Layers that ever had a gradient; where groups change over and over, later ones are left out."""
MAX_PENDING = 64
"""Steps that wait for a fold at the most: it takes 0.25 ms for so many of a few layers, which the loop may wait for."""
MAX_PENDING_NORMS = 4_096
"""Norms of parameters that reports which wait may hold: those of large models are soon cut down to what is needed."""

_MEASURES = ("loss", "norm", "duration", "learning_rate")
"""Of these a span has mean, low and high, and whether any was not finite."""
_TOTALS = (*(f"phase_{phase}" for phase in PHASES), "num_steps", "samples", "tokens")
_NUM_MEASURES = len(_MEASURES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """The spans from `first` on. A mean of what is not known is NaN, of what was ever not finite infinity."""

    origin: int
    width: int
    first: int
    num_spans: int
    layers: tuple[str, ...]
    columns: Mapping[str, Floats]
    """[S] by name: NAME_mean, NAME_low, NAME_high of every measure, phase_NAME in seconds, totals."""
    layer_norms_GS: Floats


@dataclass(frozen=True, slots=True)
class _Step:
    """What a fold needs of a report, so that the norms of its parameters may go."""

    number: int
    row: tuple[float, ...]
    layers: tuple[str, ...] = ()
    norms_G: Floats | None = None
    num_nonfinite_G: Integers | None = None
    """None where every gradient was finite."""


class History:
    """Keeps the spans of one optimizer; `add` takes a reference, `fold` the time. Not thread-safe."""

    def __init__(self) -> None:
        self._pending: list[StepReport] = []
        self._num_norms = 0
        """Of single parameters, in what is pending."""
        self._steps: list[_Step] = []
        """Those before what is pending."""
        self._spans = Spans()
        self._sums = SpanTable("sum", 3 * _NUM_MEASURES + len(_TOTALS))
        self._lows, self._highs = SpanTable("low", _NUM_MEASURES), SpanTable("high", _NUM_MEASURES)
        self._layers: dict[str, int] = {}
        self._norms, self._counts, self._bad = (SpanTable("sum", 0) for _ in range(3))

    def add(self, report: StepReport) -> None:
        """Take in one report: it is worked in with the next `fold`."""
        self._pending.append(report)
        self._num_norms += 0 if report.gradients is None else len(report.gradients.names)
        if len(self._steps) + len(self._pending) >= MAX_PENDING:
            self.fold()
        elif self._num_norms >= MAX_PENDING_NORMS:
            self._cut_down()

    def fold(self) -> None:
        """Work in what was added since the last time."""
        self._cut_down()
        steps, self._steps = self._steps, []
        if not steps:
            return
        steps_K = np.array([step.number for step in steps], dtype=np.int64)
        spans_K, num_halvings = self._spans.place(steps_K)
        for _ in range(num_halvings):
            for table in (self._sums, self._lows, self._highs, self._norms, self._counts, self._bad):
                table.halve()
        spans_U, starts_U = np.unique(spans_K, return_index=True)
        values_KC = np.array([step.row for step in steps])
        measures, totals = values_KC[:, :_NUM_MEASURES], values_KC[:, _NUM_MEASURES:]
        is_finite = np.isfinite(measures)
        rows = np.hstack([np.where(is_finite, measures, 0.0), is_finite, np.isinf(measures), totals])
        self._sums.add(spans_U, starts_U, rows)
        extremes = np.where(is_finite, measures, np.nan)
        self._lows.add(spans_U, starts_U, extremes)
        self._highs.add(spans_U, starts_U, extremes)
        self._fold_layers(steps, spans_K)

    def since(self, width: int = 0, first: int = 0) -> Slice | None:
        """Return the spans from `first` on, all where they are not of that width; None before the first step."""
        self.fold()
        if self._spans.origin is None:
            return None
        first = min(max(first, 0), self._spans.num) if width == self._spans.width else 0
        part = slice(first, self._spans.num)
        norms_SG, counts_SG, bad_SG = (table.values_SC[part] for table in (self._norms, self._counts, self._bad))
        return Slice(
            origin=self._spans.origin,
            width=self._spans.width,
            first=first,
            num_spans=self._spans.num,
            layers=tuple(self._layers),
            columns=self._columns(part),
            layer_norms_GS=_mean(norms_SG, counts_SG, bad_SG).T,
        )

    def _columns(self, part: slice) -> dict[str, Floats]:
        sums, lows, highs = (table.values_SC[part].T.copy() for table in (self._sums, self._lows, self._highs))
        columns: dict[str, Floats] = {}
        for index, name in enumerate(_MEASURES):
            total, count, bad = sums[index], sums[_NUM_MEASURES + index], sums[2 * _NUM_MEASURES + index]
            columns |= {
                f"{name}_mean": _mean(total, count, bad),
                f"{name}_low": lows[index],
                f"{name}_high": highs[index],
            }
        return columns | dict(zip(_TOTALS, sums[3 * _NUM_MEASURES :], strict=True))

    def _cut_down(self) -> None:
        self._steps += map(_step, self._pending)
        self._pending, self._num_norms = [], 0

    def _fold_layers(self, steps: Sequence[_Step], spans_K: Integers) -> None:
        """Work in the norms of layers, for each run of steps that have the same layers at once."""
        start = 0
        for end in range(1, len(steps) + 1):
            if end < len(steps) and steps[end].layers is steps[start].layers:
                continue
            if steps[start].layers:
                self._add_layers(steps[start:end], spans_K[start:end])
            start = end

    def _add_layers(self, steps: Sequence[_Step], spans_K: Integers) -> None:
        layers = steps[0].layers
        for layer in layers:
            if layer not in self._layers and len(self._layers) < MAX_NAMES:
                self._layers[layer] = len(self._layers)
        of_theirs = [index for index, layer in enumerate(layers) if layer in self._layers]
        of_ours = [self._layers[layers[index]] for index in of_theirs]
        norms_KG = np.array([step.norms_G for step in steps])[:, of_theirs]
        is_finite_KG = np.isfinite(norms_KG)
        bad_KG = np.isinf(norms_KG)
        for row, step in enumerate(steps):  # a norm of NaN may be that of no gradient at all
            if step.num_nonfinite_G is not None:
                bad_KG[row] |= step.num_nonfinite_G[of_theirs] > 0
        spans_U, starts_U = np.unique(spans_K, return_index=True)
        for table, values_KG in (
            (self._norms, np.where(is_finite_KG, norms_KG, 0.0)),
            (self._counts, is_finite_KG),
            (self._bad, bad_KG),
        ):
            if table.values_SC.shape[1] < len(self._layers):
                table.widen(len(self._layers))
            rows = np.zeros((len(steps), len(self._layers)))
            rows[:, of_ours] = values_KG
            table.add(spans_U, starts_U, rows)


def _step(report: StepReport) -> _Step:
    table = report.gradients
    if table is None:
        return _Step(report.step, _row(report))
    num_nonfinite_G = table.layer_num_nonfinite if table.has_nonfinite else None
    return _Step(report.step, _row(report), table.layers, table.layer_norms, num_nonfinite_G)


def _row(report: StepReport) -> tuple[float, ...]:
    """Return the measures and totals of one step; NaN is not known, infinity not finite."""
    table, rates = report.gradients, report.learning_rates
    return (
        _measure(report.loss),
        _measure(None if table is None or _has_none(table) else table.global_norm),
        _measure(report.duration_seconds),
        _measure(rates[0] if rates else None),
        *[report.phases.get(phase, 0.0) for phase in PHASES],
        report.num_steps,
        report.num_samples,
        report.num_tokens,
    )


def _measure(value: float | None) -> float:
    return math.nan if value is None else value if math.isfinite(value) else math.inf


def _has_none(table: GradientTable) -> bool:
    """Whether there was no gradient at all: the norm is NaN then, too."""
    return math.isnan(table.global_norm) and not table.has_nonfinite


def _mean(totals: Floats, counts: Floats, bad: Floats) -> Floats:
    means: Floats = np.divide(totals, counts, out=np.full(totals.shape, np.nan), where=counts > 0)
    means[bad > 0] = np.inf
    return means
