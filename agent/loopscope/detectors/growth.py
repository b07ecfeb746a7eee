"""Gradients that explode or spike: each layer's norm against its own history, on a logarithmic scale.

Shape legend: C columns (the global norm, then G layer groups).
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..records import Event, StepReport
from .baseline import Baseline, ExplodingRule, SpikeRule
from .incidents import Incidents, Severity, event
from .stretches import Skimming, Stretch

if TYPE_CHECKING:
    from ..records import EpochReport, Flags, Floats, GradientTable, SelfReport

__all__ = ["GradientGrowth"]

_SMALLEST = 1e-300
"""Keeps a ratio finite where a layer had no gradient."""

_SUSTAINED_STEPS = 5
"""Steps above the bound that make an explosion also where the norm does not grow any more."""
_FAR_STEPS = 2
"""The same where it stays above `_FAR_RATIO`: the step after a single bad batch is an ordinary one again."""
_FAR_RATIO = 100.0
_RATE_JUMP = 10.0
"""A learning rate over that of two blocks ago from which a spike is its doing, and not a batch's."""
_STEPS_TO_CLOSE = 20
_GROWTH = math.log(3.0)
"""Two steps above the bound, the second larger by this: it grows on, which a single bad batch does not."""


class GradientGrowth(Skimming):
    """Reports norms that leave the range of their own history: upwards for good, or for a step.

    A layer counts where its norm alone is three times what the whole gradient used to be, so that layers that start
    at zero may wake up. Norms are those before clipping; a spike that clipping contained is `info`. A spike is told
    one step later, when it has fallen, and is an explosion where the learning rate had just been raised tenfold.
    Memory: (144 + 11) * C float64 an optimizer.
    """

    name = "gradient_growth"

    def __init__(self, exploding: ExplodingRule | None, spike: SpikeRule | None) -> None:
        self._exploding, self._spike = exploding, spike
        self.incidents = Incidents()
        self._tracks: dict[str | None, _Track] = {}

    def see(self, report: StepReport | EpochReport | SelfReport) -> tuple[Event, ...]:
        """Return the incidents that this step opens or makes worse."""
        if not isinstance(report, StepReport) or report.gradients is None or report.skipped is not None:
            return ()
        table = report.gradients
        track = self._tracks.get(report.optimizer)
        if track is None or track.layers != table.layers:
            self.incidents.drop(report.optimizer)
            track = _Track(report.optimizer, table.layers, self._exploding, self._spike, self.incidents)
            self._tracks[report.optimizer] = track
        return track.see(report, table)

    def skim(self, stretch: Stretch, begin: int) -> int:
        """Take in steps whose norms are far from their bounds."""
        track = self._tracks.get(stretch.optimizer)
        return track.skim(stretch, begin) if track is not None and track.layers == stretch.table.layers else 0


@dataclass(slots=True)
class _Pending:
    """A step that may turn out to be a spike."""

    report: StepReport
    row_C: Floats
    bound_C: Floats


class _Track:
    """The norms of one optimizer."""

    def __init__(
        self,
        optimizer: str | None,
        layers: tuple[str, ...],
        exploding: ExplodingRule | None,
        spike: SpikeRule | None,
        incidents: Incidents,
    ) -> None:
        self.layers, self._exploding, self._spike = layers, exploding, spike
        size = 1 + len(layers)
        self._baseline = Baseline(size, exploding, spike)
        self._streak_C = np.zeros(size, np.int64)
        self._last_C = np.zeros(size)
        self._is_hot = False
        self._rates: deque[float] = deque([0.0], maxlen=2)
        self._pending: _Pending | None = None
        self._explosion = incidents.new("exploding_gradient", optimizer, _STEPS_TO_CLOSE)
        self._spikes = incidents.new("gradient_spike", optimizer, _STEPS_TO_CLOSE)

    def see(self, report: StepReport, table: GradientTable) -> tuple[Event, ...]:
        """Return what this step opens."""
        if not 0 < table.global_norm < math.inf:  # NaN and infinity are another detector's; zero has no logarithm
            self._pending, self._is_hot = None, False
            return ()
        row_C = self._baseline.next_row()
        row_C[0] = table.global_norm
        row_C[1:] = table.layer_norms
        if table.global_norm_pre_clip is not None and table.global_norm > 0:
            row_C *= table.global_norm_pre_clip / table.global_norm
        events: tuple[Event, ...] = ()
        if table.sample is not None and self._exploding is not None:
            events = self._compare_weights(report, table, float(row_C[0]))
        if self._baseline.is_above(row_C) or self._is_hot:
            self._baseline.renew()
            events += self._look(report, row_C.copy())
            # An anomaly must not become the measure of the next one.
            np.minimum(row_C, self._baseline.bound_C, out=row_C)
        else:
            self._explosion.see_calm()
            self._spikes.see_calm()
        self._baseline.take_row()
        if self._baseline.is_at_end:
            self._rates.append(_rate(report))
        return events

    def skim(self, stretch: Stretch, begin: int) -> int:
        """Take in steps up to one that comes near its bounds; return how many."""
        if self._is_hot or self._pending is not None or self._explosion.severity or self._spikes.severity:
            return 0
        rows_NC, steps = _rows(stretch, begin), stretch.reports[begin:]
        rates = [_rate(report) for report in steps[self._baseline.num_left - 1 :: self._baseline.block_steps]]
        taken = 0
        while size := self._baseline.take_calm(rows_NC[taken:]):
            taken += size
            if self._baseline.is_at_end:
                self._rates.append(rates.pop(0))
        return taken

    def _look(self, report: StepReport, row_C: Floats) -> tuple[Event, ...]:
        exploded = self._see_explosion(report, row_C)
        spiked = self._see_spike(report, row_C, is_exploding=bool(self._explosion.severity))
        self._last_C = row_C
        self._is_hot = bool((row_C > self._baseline.bound_C).any())
        if not self._streak_C.any():
            self._explosion.see_calm()
        if self._pending is None:
            self._spikes.see_calm()
        return exploded + spiked

    def _see_explosion(self, report: StepReport, row_C: Floats) -> tuple[Event, ...]:
        rule = self._exploding
        is_above_C = row_C > self._baseline.explode_C
        self._streak_C = np.where(is_above_C, self._streak_C + 1, 0)
        if rule is None or not is_above_C.any():
            return ()
        is_growing_C = (self._streak_C >= 2) & (row_C > self._last_C * math.exp(_GROWTH))
        is_over_C = is_growing_C | (self._streak_C >= _SUSTAINED_STEPS)
        far_C = self._baseline.highest_C * _FAR_RATIO
        is_over_C |= (self._streak_C >= _FAR_STEPS) & (row_C > far_C) & (self._last_C > far_C)
        if not (is_over_C.any() or (self._explosion.severity and is_above_C.any())):
            return ()
        return self._explode(report, rule, row_C, is_above_C)

    def _explode(self, report: StepReport, rule: ExplodingRule, row_C: Floats, is_above_C: Flags) -> tuple[Event, ...]:
        ratio_C = row_C / np.maximum(self._baseline.highest_C, _SMALLEST)
        ratio = float(np.max(np.where(is_above_C & (self._baseline.highest_C > 0), ratio_C, 0.0)))
        severity = Severity.CRITICAL if ratio >= rule.critical_ratio else Severity.WARNING
        layer = _foremost(self.layers, ratio_C, is_above_C)
        above = [each for each, is_above in zip(self.layers, is_above_C[1:], strict=True) if is_above and each != layer]
        if not self._explosion.see(severity, report.step, [layer, *above]):
            return ()
        self._pending = None
        norm, before = float(row_C[0]), "anything before"
        return (
            _explosion_event(report, severity, layer=layer, norm=norm, ratio=ratio, bound=rule.ratio, against=before),
        )

    def _see_spike(self, report: StepReport, row_C: Floats, *, is_exploding: bool) -> tuple[Event, ...]:
        pending, self._pending = self._pending, None
        if self._spike is None or is_exploding:
            return ()
        if pending is None:
            if self._baseline.is_sudden(row_C):
                self._pending = _Pending(report, row_C, self._baseline.spike_C)
            return ()
        is_spike_C = pending.row_C > pending.bound_C
        if (row_C > pending.bound_C).any():  # what stays up is an explosion, or another level
            return ()
        if self._exploding is not None and _rate(pending.report) > _RATE_JUMP * min(self._rates) > 0:
            return self._explode(pending.report, self._exploding, pending.row_C, is_spike_C)
        return self._spike_event(pending, is_spike_C)

    def _spike_event(self, pending: _Pending, is_spike_C: Flags) -> tuple[Event, ...]:
        report, table = pending.report, pending.report.gradients
        assert table is not None
        assert self._spike is not None
        is_clipped = table.global_norm_pre_clip is not None and table.global_norm < 0.5 * table.global_norm_pre_clip
        ratio_C = pending.row_C / np.maximum(self._baseline.median_C, _SMALLEST)
        layer = _foremost(self.layers, ratio_C, is_spike_C)
        severity = Severity.INFO if is_clipped else Severity.WARNING
        if not self._spikes.see(severity, report.step, [layer]):
            return ()
        column = int(np.argmax(is_spike_C))
        ratio = float(ratio_C[0]) if is_spike_C[0] else float(ratio_C[column])
        return (
            event(
                report,
                "gradient_spike",
                severity,
                f"The gradient was {ratio:,.3g} times its usual norm for a step"
                + ("; clipping contained it." if is_clipped else "."),
                "Look at the batch of this step; clip with torch.nn.utils.clip_grad_norm_ where batches may be bad.",
                layer=layer,
                value=float(pending.row_C[0]),
                threshold=float(pending.bound_C[column]),
                attributes={"ratio": ratio, "is_clipped": is_clipped},
            ),
        )

    def _compare_weights(self, report: StepReport, table: GradientTable, norm: float) -> tuple[Event, ...]:
        assert self._exploding is not None
        assert table.sample is not None
        weights = math.sqrt(float(np.nansum(table.sample.weight_norms_G**2)))
        if not 0 < weights * self._exploding.weight_ratio < norm:
            return ()
        layer, bound = self.layers[int(np.nanargmax(table.layer_norms))], self._exploding.weight_ratio
        if not self._explosion.see(Severity.WARNING, report.step, [layer]):
            return ()
        ratio, weight = norm / weights, "the weights' norm"
        return (
            _explosion_event(
                report, Severity.WARNING, layer=layer, norm=norm, ratio=ratio, bound=bound, against=weight
            ),
        )


def _rate(report: StepReport) -> float:
    return max((rate for rate in report.learning_rates if rate > 0), default=0.0)


def _rows(stretch: Stretch, begin: int) -> Floats:
    """Return the norms before clipping, a row a step: the global one, then those of the layers."""
    tables = stretch.tables[begin:]
    rows_NC = np.empty((len(tables), 1 + len(stretch.table.layers)))
    rows_NC[:, 0] = [table.global_norm for table in tables]
    rows_NC[:, 1:] = stretch.layer_norms_NG[begin:]
    before = [table.global_norm_pre_clip for table in tables]
    if before.count(None) < len(before):
        norms = [table.global_norm if norm is None else norm for table, norm in zip(tables, before, strict=True)]
        with np.errstate(over="ignore", invalid="ignore"):  # as Python's own floats
            rows_NC *= (np.array(norms) / rows_NC[:, 0])[:, None]
    return rows_NC


def _foremost(layers: tuple[str, ...], ratio_C: Floats, is_above_C: Flags) -> str | None:
    """Return the first layer in forward order among those that rose most: by the root of the largest rise at least."""
    ratio_G = np.where(is_above_C[1:], ratio_C[1:], 0.0)
    if not ratio_G.any():
        ratio_G = np.nan_to_num(ratio_C[1:])
    candidates = np.flatnonzero((ratio_G > 0) & (ratio_G >= math.sqrt(max(float(ratio_G.max(initial=0)), 0.0))))
    return layers[int(candidates[0])] if len(candidates) else None


def _explosion_event(
    report: StepReport, severity: Severity, *, layer: str | None, norm: float, ratio: float, bound: float, against: str
) -> Event:
    return event(
        report,
        "exploding_gradient",
        severity,
        f"The gradient explodes: its norm is {norm:.3g}, {ratio:,.3g} times {against}.",
        "Go back to a checkpoint from before this step; lower the learning rate or lengthen its warm-up, and clip with "
        "torch.nn.utils.clip_grad_norm_. Where it was so from the start look at the initialisation.",
        layer=layer,
        value=norm,
        threshold=norm / ratio * bound if ratio else None,
        attributes={"ratio": ratio, "bound": bound},
    )
