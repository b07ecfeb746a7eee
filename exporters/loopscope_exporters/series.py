"""The series of one agent: records in, points of every catalogued metric out, within the catalog's bounds.

Exporters of metrics turn the points into their own format. Unknown values have no point; they are never 0.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Hashable, Iterable
from functools import partial

import numpy as np

from loopscope.catalog import (
    EPOCH_STATISTICS,
    EVENT_KINDS,
    MAX_LAYERS,
    MAX_OPTIMIZERS,
    MAX_PARTS,
    METRICS,
    OVERHEAD_PARTS,
    metric,
)
from loopscope.records import (
    ActivityReport,
    EpochReport,
    Event,
    Floats,
    GradientTable,
    HealthReport,
    Record,
    RunInfo,
    SelfReport,
    StepReport,
)

from .activations import ActivationSeries
from .activity import ActivitySeries
from .health import HealthSeries
from .points import Histogram, Labels, Point, Points, clean, put
from .tally import Tally
from .yielding import Yielding, give_way

__all__ = ["AgentSeries"]

_LIMITS = {"loopscope.learning_rate": 8, "loopscope.internal_errors": MAX_PARTS}
"""Values of the last label of one optimizer or agent, where the catalog has no closed list."""
OTHER_OPTIMIZERS = "other"
"""Value of the label `optimizer` that the optimizers after the first MAX_OPTIMIZERS share."""


class AgentSeries:
    """Keeps what the series of one agent are made of; `add` on the worker thread, `collect` on any.

    `collect` takes some milliseconds in which it gives way to the loop; the worker waits for it, which its queue bears.

    `add` takes a few microseconds: it counts and keeps references. The points are made in `collect`, all of one
    optimizer from the same report; statistics that not every report has are those of the latest that had them.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._labels: Labels = {}
        self._tallies: dict[str | None, Tally] = {}
        self._layer_labels: dict[tuple[str | None, str], Labels] = {}
        self._anomalies = {kind.name: 0 for kind in EVENT_KINDS}
        self._run: RunInfo | None = None
        self._self: SelfReport | None = None
        self._activity = ActivitySeries()
        self._health = HealthSeries()
        self._activations = ActivationSeries()
        self._left_out: set[Hashable] = set()

    def add(self, record: Record) -> None:
        """Count one record in."""
        with self._lock:
            if isinstance(record, StepReport):
                self._tally(record.optimizer).add(record)
                self._activations.add(record.activations)
            elif isinstance(record, EpochReport):
                self._tally(record.optimizer).epoch = record
            elif isinstance(record, Event):
                self._add_event(record)
            elif isinstance(record, SelfReport):
                self._self = record
            elif isinstance(record, ActivityReport):
                self._activity.add(record)
            elif isinstance(record, HealthReport):
                self._health.add(record)
            else:
                self._add_run(record)

    @property
    def step_seconds(self) -> float:
        """Duration of the shortest among the optimizers' latest steps, 0 where one is not known."""
        with self._lock:
            reports = [tally.latest for tally in self._tallies.values()]
        return min((0.0 if report is None else report.duration_seconds or 0.0 for report in reports), default=0.0)

    def collect(self) -> Points:
        """Return the points of this moment; metrics without a known value have an empty list."""
        points: Points = {entry.name: [] for entry in METRICS}
        with self._lock:
            if self._run is not None:
                self._collect_run(self._run, points)
            for optimizer, tally in self._tallies.items():
                self._collect_optimizer(optimizer, tally, points)
            if self._self is not None:
                self._collect_self(self._self, points)
            if self._run is not None:
                self._activity.collect(self._labels, points)
                self._health.collect(self._labels, points)
                self._activations.collect(self._labels, points)
                num_left_out = len(self._left_out) + self._activity.num_left_out + self._health.num_left_out
                points["loopscope.series_dropped"].append(Point(self._labels, num_left_out))
        return points

    def _add_run(self, run: RunInfo) -> None:
        self._run = run
        self._labels = {"agent": clean(run.agent)} | ({} if run.rank is None else {"rank": str(run.rank)})
        self._layer_labels.clear()
        # Counters exist from here on, as of a single optimizer; the first report corrects that where it has a name.
        self._tallies = self._tallies or {None: Tally(run.layers)}

    def _tally(self, optimizer: str | None) -> Tally:
        tally = self._tallies.get(optimizer)
        return self._new_tally(optimizer) if tally is None else tally

    def _new_tally(self, optimizer: str | None) -> Tally:
        single = self._tallies.get(None)
        if single is not None and single.latest is None and single.epoch is None:
            del self._tallies[None]
            self._layer_labels.clear()
        if len(self._tallies) >= MAX_OPTIMIZERS:
            optimizer = OTHER_OPTIMIZERS
        return self._tallies.setdefault(optimizer, Tally())

    def _add_event(self, event: Event) -> None:
        if event.severity not in {"warning", "critical"}:
            return
        if event.kind not in self._anomalies and len(self._anomalies) >= metric("loopscope.anomalies").bound:
            self._left_out.add(("loopscope.anomalies", event.kind))
            return
        self._anomalies[event.kind] = self._anomalies.get(event.kind, 0) + 1

    def _collect_run(self, run: RunInfo, points: Points) -> None:
        versions = {name: clean(run.versions.get(name, "")) for name in ("torch", "python", "loopscope")}
        labels = {**self._labels, "run": clean(run.run), "model": clean(run.model), **versions}
        points["loopscope.run.info"].append(Point(labels, 1))
        self._split(points, "loopscope.anomalies", self._labels, "kind", self._anomalies.items())
        if self._self is None:
            nothing = dict.fromkeys(OVERHEAD_PARTS, 0)
            self._split(points, "loopscope.overhead", self._labels, "probe", nothing.items())
            points["loopscope.dropped_reports"].append(Point(self._labels, 0))

    def _collect_self(self, report: SelfReport, points: Points) -> None:
        for name, value in (
            ("loopscope.overhead.ratio", report.overhead_ratio),
            ("loopscope.sample.interval", report.sample_interval_steps),
            ("loopscope.dropped_reports", report.dropped_reports),
            ("loopscope.disabled_parts", len(report.disabled_parts)),
            ("loopscope.process.memory", report.process_memory_bytes),
            ("loopscope.process.cpu", report.process_cpu_seconds),
        ):
            put(points, name, self._labels, value)
        overhead = dict.fromkeys(OVERHEAD_PARTS, 0.0) | dict(report.overhead_seconds)
        self._split(points, "loopscope.overhead", self._labels, "probe", overhead.items())
        self._split(points, "loopscope.internal_errors", self._labels, "part", report.internal_errors.items())

    def _collect_optimizer(self, optimizer: str | None, tally: Tally, points: Points) -> None:
        labels = self._labels if optimizer is None else {**self._labels, "optimizer": clean(optimizer)}
        self._collect_counters(tally, labels, points)
        if tally.latest is not None:
            self._collect_latest(tally.latest, labels, points)
            put(points, "loopscope.last_step.timestamp", labels, tally.last_step_time)
        for layer, count in tally.num_nonfinite.items():
            self._put_layer(points, "loopscope.gradient.nonfinite", optimizer, layer, count)
        if tally.gradients is not None:
            self._collect_gradients(optimizer, tally.gradients, labels, points)
            for layer, state, value in Yielding(partial(self._health.states, optimizer, tally.gradients.layers), 64):
                self._put_layer(points, "loopscope.layer.health", optimizer, layer, value, state=state)
        if tally.sampled is not None:
            self._collect_sample(optimizer, tally.sampled, points)
        if tally.epoch is not None:
            self._collect_epoch(optimizer, tally.epoch, labels, points)

    def _collect_counters(self, tally: Tally, labels: Labels, points: Points) -> None:
        put(points, "loopscope.steps", labels, tally.num_steps)
        put(points, "loopscope.micro_steps", labels, tally.num_micro_steps)
        put(points, "loopscope.samples", labels, tally.num_samples)
        put(points, "loopscope.tokens", labels, tally.num_tokens)
        self._split(points, "loopscope.skipped_steps", labels, "reason", tally.num_skipped.items())
        self._split(points, "loopscope.step.phase", labels, "phase", tally.phase_seconds.items())
        durations = Histogram(tally.duration_counts.copy(), tally.duration_sum, tally.duration_exemplars.copy())
        points["loopscope.step.duration"].append(Point(labels, durations))
        counts = tally.magnitude_counts
        if counts is not None:
            points["loopscope.gradient.magnitude"].append(Point(labels, Histogram(counts, tally.magnitude_sum)))

    def _collect_latest(self, report: StepReport, labels: Labels, points: Points) -> None:
        put(points, "loopscope.step", labels, report.step)
        put(points, "loopscope.epoch", labels, report.epoch)
        put(points, "loopscope.grad_scale", labels, report.grad_scale)
        put(points, "loopscope.loss", {**labels, "source": report.loss_source or "log"}, report.loss)
        rates = ((str(group), rate) for group, rate in enumerate(report.learning_rates))
        self._split(points, "loopscope.learning_rate", labels, "group", rates)

    def _collect_gradients(self, optimizer: str | None, table: GradientTable, labels: Labels, points: Points) -> None:
        if table.scope != "full":  # a shard's norm is no norm of the layer; sums of squares add up over the ranks
            squares_G = table.layer_norms**2
            self._put_layers(points, "loopscope.gradient.local_squares", optimizer, table, squares_G, may_be_nan=True)
            return
        self._put_layers(points, "loopscope.gradient.norm", optimizer, table, table.layer_norms, may_be_nan=True)
        norms = {"pre_clip": table.global_norm_pre_clip, "post_clip": table.global_norm}
        for stage, norm in norms.items():
            if norm is not None and (not math.isnan(norm) or table.has_nonfinite):
                points["loopscope.gradient.global_norm"].append(Point({**labels, "stage": stage}, norm))

    def _collect_sample(self, optimizer: str | None, table: GradientTable, points: Points) -> None:
        sample = table.sample
        assert sample is not None
        weight_norms_G = sample.weight_norms_G if table.scope == "full" else np.full(len(table.layers), math.nan)
        for name, values_G, may_be_nan in (
            ("loopscope.gradient.max_abs", sample.max_abs_G, True),
            ("loopscope.weight.norm", weight_norms_G, True),
            ("loopscope.gradient.zero_ratio", sample.zero_ratio_G, False),
            ("loopscope.update.ratio", sample.update_ratios_G, False),
        ):
            self._put_layers(points, name, optimizer, table, values_G, may_be_nan=may_be_nan)

    def _collect_epoch(self, optimizer: str | None, report: EpochReport, labels: Labels, points: Points) -> None:
        put(points, "loopscope.epoch.duration", labels, report.duration_seconds)
        put(points, "loopscope.epoch.loss", {**labels, "weighting": report.loss_weighting or "batches"}, report.loss)
        if report.gradients is None or report.gradients.scope != "full":
            return
        columns = [(name, getattr(report.gradients, name).tolist()) for name in EPOCH_STATISTICS]
        for index, layer in Yielding(partial(enumerate, report.gradients.layers), 12):
            for name, values in columns:
                if not math.isnan(values[index]):
                    self._put_layer(points, "loopscope.epoch.gradient_norm", optimizer, layer, values[index], stat=name)

    def _put_layers(
        self,
        points: Points,
        name: str,
        optimizer: str | None,
        table: GradientTable,
        values_G: Floats,
        *,
        may_be_nan: bool,
    ) -> None:
        """NaN means unknown, except that the norm of a non-finite gradient is NaN itself."""
        is_nan = (table.layer_num_nonfinite > 0) if may_be_nan and table.has_nonfinite else None
        for index, (layer, value) in enumerate(zip(table.layers, values_G.tolist(), strict=True)):
            if not math.isnan(value) or (is_nan is not None and is_nan[index]):
                self._put_layer(points, name, optimizer, layer, value)
        give_way()

    def _put_layer(
        self, points: Points, name: str, optimizer: str | None, layer: str, value: float, **labels: str
    ) -> None:
        known = self._layer_labels.get((optimizer, layer))
        if known is None:
            if len(self._layer_labels) >= MAX_LAYERS:
                self._left_out.add((name, optimizer, layer, *labels.values()))
                return
            base = self._labels if optimizer is None else {**self._labels, "optimizer": clean(optimizer)}
            known = self._layer_labels[optimizer, layer] = {**base, "layer": clean(layer)}
        points[name].append(Point({**known, **labels} if labels else known, value))

    def _split(
        self, points: Points, name: str, labels: Labels, label: str, values: Iterable[tuple[str, float]]
    ) -> None:
        """One point a value of `label`, the values held to the catalog's list or to their bound."""
        closed, limit = metric(name).values, _LIMITS.get(name, math.inf)
        for index, (value, amount) in enumerate(values):
            if index >= limit or (closed and value not in closed):
                self._left_out.add((name, labels.get("optimizer"), value))
            else:
                points[name].append(Point({**labels, label: clean(value)}, amount))
