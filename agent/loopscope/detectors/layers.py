"""Layers that do not train though others do: no gradient, or a gradient and no update.

Shape legend: P parameters of one optimizer, G layer groups among them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..records import Event, StepReport
from .incidents import Incidents, Severity, event
from .stretches import Skimming, Stretch

if TYPE_CHECKING:
    from ..records import EpochReport, Flags, GradientSample, GradientTable, Integers, SelfReport

__all__ = ["DeadRule", "FrozenRule", "LayerLife"]

_SUBNORMAL_RATIO = 0.1
"""Share of subnormal magnitudes from which the number format is to blame, as in UnderflowRule."""
_MAX_NAMED = 8
"""Names in the attributes of one event."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadRule:
    """Bounds of `dead_layer`."""

    steps: float = 30
    """Steps in a row without any gradient while others have one: longer than experts and heads that take turns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FrozenRule:
    """Bounds of `frozen_layer`."""

    samples: float = 2
    """Sampled steps in a row on which nothing changed: the first may be that of a warm-up from zero."""
    visible_update: float = 1e-6
    """Gradient norm times learning rate over weight norm above which an update cannot be lost to the rounding of
    float32 (2**-24 = 6e-8) for SGD; adaptive optimizers take larger steps.
    """


class LayerLife(Skimming):
    """Reports modules that never get a gradient, and layers that get one and do not change; each once.

    A module is dead where all of its parameters are. Parameters with `requires_grad` False are no fault: they are
    told of as `info`. Memory: 3 * P an optimizer.
    """

    name = "layer_life"

    def __init__(self, dead: DeadRule | None, frozen: FrozenRule | None) -> None:
        self._dead, self._frozen = dead, frozen
        self.incidents = Incidents()
        self._tracks: dict[str | None, _Track] = {}

    def see(self, report: StepReport | EpochReport | SelfReport) -> tuple[Event, ...]:
        """Return what this step tells."""
        if not isinstance(report, StepReport) or report.gradients is None or report.skipped is not None:
            return ()
        table = report.gradients
        track = self._tracks.get(report.optimizer)
        if track is None or track.names != table.names:
            self.incidents.drop(report.optimizer)
            track = self._tracks[report.optimizer] = _Track(report.optimizer, table, self.incidents)
        events: tuple[Event, ...] = ()
        if self._dead is not None:
            events = track.see_dead(report, table, self._dead.steps)
        if self._frozen is not None and table.frozen != track.frozen:
            events += track.see_frozen(report, table)
        if self._frozen is not None and table.sample is not None:
            events += track.see_sample(report, table, table.sample, self._frozen)
        return events

    def skim(self, stretch: Stretch, begin: int) -> int:
        """Take in steps on which every parameter has a gradient, as it had before."""
        track, table = self._tracks.get(stretch.optimizer), stretch.table
        if track is None or track.names != table.names or (self._frozen is not None and table.frozen != track.frozen):
            return 0
        return len(stretch.tables) - begin if self._dead is None else track.skim_dead(stretch.tables[begin:])


class _Track:
    """The parameters of one optimizer."""

    def __init__(self, optimizer: str | None, table: GradientTable, incidents: Incidents) -> None:
        self.names = table.names
        self._deaths = incidents.new("dead_layer", optimizer, 1)
        self._freezes = incidents.new("frozen_layer", optimizer, 1)
        self.frozen: tuple[int, ...] = ()
        self._num_dead_P = np.zeros(len(table.names), np.int64)
        self._was_alive_P = np.zeros(len(table.names), np.bool_)
        self._is_told_P = np.zeros(len(table.names), np.bool_)
        self._is_reported_P = np.zeros(len(table.names), np.bool_)
        """Parameters of modules that an event has named and that are dead still."""
        self._steps_since_sample = 0
        self._num_unchanged_G = np.zeros(len(table.layers), np.int64)
        self._has_told_of: set[str] = set()
        self._is_clean, self._is_new = True, True

    def see_dead(self, report: StepReport, table: GradientTable, steps: float) -> tuple[Event, ...]:
        """Count the steps without a gradient, and tell of the modules that have none for long."""
        # A rank's shard of a small parameter may be empty, and its norm zero: there only "no gradient" says something.
        is_alive_P = table.norms > 0 if table.scope == "full" else ~np.isnan(table.norms)
        num_alive = np.count_nonzero(is_alive_P)
        self._steps_since_sample = 0 if table.sample is not None else self._steps_since_sample + 1
        if num_alive == len(self.names):
            if self._is_new or not self._is_clean:
                self._num_dead_P[:] = 0
                self._is_told_P[:] = self._is_reported_P[:] = False
                self._deaths.close()
                self._was_alive_P[:] = self._is_clean = True
                self._is_new = False
            return ()
        if not num_alive or not math.isfinite(table.global_norm):
            return ()
        self._is_clean = False
        self._was_alive_P |= is_alive_P
        self._num_dead_P += report.num_steps
        self._num_dead_P[is_alive_P | table.is_nonfinite] = 0
        self._is_told_P &= ~is_alive_P
        if self._deaths.severity and (self._is_reported_P & is_alive_P).any():
            self._is_reported_P &= ~is_alive_P
            self._deaths.hold(_layers_of(table, np.flatnonzero(self._is_reported_P)), report.step)
        is_dead_P = (self._num_dead_P >= steps) & ~self._is_told_P
        if not is_dead_P.any():
            return ()
        is_none_P = np.isnan(table.norms)
        # What vanished may have been frozen since: `frozen` is known as of the last sampled step.
        is_vague_P = is_none_P & self._was_alive_P & (self._steps_since_sample >= self._num_dead_P)
        is_dead_P &= ~(is_vague_P | (is_none_P & (table.num_unreadable > 0)))
        is_dead_P[list(table.frozen)] = False
        modules = _whole_modules(self.names, is_dead_P | self._is_told_P, is_dead_P)
        self._is_told_P |= is_dead_P
        if not modules:
            return ()
        self._is_reported_P[[row for rows in modules.values() for row in rows]] = True
        self._deaths.hold(_layers_of(table, np.flatnonzero(self._is_reported_P)), report.step)
        return (_dead_event(report, table, modules, is_none_P, int(steps)),)

    def skim_dead(self, tables: Sequence[GradientTable]) -> int:
        """Take in steps if all are alive, as they were before; return how many."""
        if self._is_new or not self._is_clean:
            return 0
        norms = np.concatenate([table.norms for table in tables])
        is_alive = norms > 0 if tables[0].scope == "full" else ~np.isnan(norms)
        if np.count_nonzero(is_alive) != len(norms):
            return 0
        self._steps_since_sample += len(tables)
        return len(tables)

    def see_frozen(self, report: StepReport, table: GradientTable) -> tuple[Event, ...]:
        """Tell once of parameters that were frozen on purpose and that the optimizer has nevertheless."""
        is_more = not set(table.frozen) <= set(self.frozen)
        self.frozen = table.frozen
        if not is_more:
            return ()
        layers = _layers_of(table, table.frozen)
        message = f"{len(table.frozen)} of the optimizer's parameters are frozen (requires_grad is False)."
        remedy = "Nothing to do where it is meant; otherwise call requires_grad_(True) on them."
        return (
            event(
                report,
                "frozen_layer",
                Severity.INFO,
                message,
                remedy,
                layer=layers[0],
                value=float(len(table.frozen)),
                attributes={"layers": layers[:_MAX_NAMED], "parameter": table.names[table.frozen[0]]},
            ),
        )

    def see_sample(
        self, report: StepReport, table: GradientTable, sample: GradientSample, rule: FrozenRule
    ) -> tuple[Event, ...]:
        """Tell of layers whose weights a step left as they were."""
        rate = max((rate for rate in report.learning_rates if not math.isnan(rate)), default=0.0)
        update_G = sample.update_ratios_G
        if not rate > 0 or not (update_G > 0).any():  # nothing changes at all: a matter of the learning rate
            return ()
        visible_G = table.layer_norms * rate > rule.visible_update * sample.weight_norms_G
        is_unchanged_G = (update_G == 0) & visible_G & (sample.zero_ratio_G < 1)
        is_unchanged_G[table.layer_index_P[sample.subnormal_ratio_P > _SUBNORMAL_RATIO]] = False  # that is underflow
        self._num_unchanged_G = np.where(is_unchanged_G, self._num_unchanged_G + 1, 0)
        if self._has_told_of:
            self._has_told_of -= {table.layers[index] for index in np.flatnonzero(update_G > 0).tolist()}
            self._freezes.hold([layer for layer in table.layers if layer in self._has_told_of], report.step)
        found = [table.layers[index] for index in np.flatnonzero(self._num_unchanged_G >= rule.samples).tolist()]
        news = [layer for layer in found if layer not in self._has_told_of]
        if not news:
            return ()
        self._has_told_of |= set(news)
        self._freezes.hold([layer for layer in table.layers if layer in self._has_told_of], report.step)
        others = f" (and {len(news) - 1} more)" if len(news) > 1 else ""
        return (
            event(
                report,
                "frozen_layer",
                Severity.WARNING,
                f"The weights of layer {news[0]}{others} do not change, though they have a gradient.",
                "Look for a parameter group with lr=0, for a copy or a hook that undoes the step, and for weights in a "
                "dtype too coarse for the update.",
                layer=news[0],
                value=0.0,
                attributes={"layers": news[:_MAX_NAMED]},
            ),
        )


def _whole_modules(names: Sequence[str], is_dead_P: Flags, is_new_P: Flags) -> dict[str, list[int]]:
    """Return the parameters of each module all of whose parameters are dead, where one of them is so newly."""
    members: dict[str, list[int]] = {}
    for index, name in enumerate(names):
        members.setdefault(name.rpartition(".")[0], []).append(index)
    return {
        module: rows
        for module, rows in members.items()
        if all(is_dead_P[row] for row in rows) and any(is_new_P[row] for row in rows)
    }


def _layers_of(table: GradientTable, rows: Sequence[int] | Integers) -> list[str]:
    return [table.layers[index] for index in sorted(set(table.layer_index_P[list(rows)].tolist()))]


def _dead_event(
    report: StepReport, table: GradientTable, modules: dict[str, list[int]], is_none_P: Flags, steps: int
) -> Event:
    rows = [row for members in modules.values() for row in members]
    layers = _layers_of(table, rows)
    first = next(row for row in rows if table.layers[table.layer_index_P[row]] == layers[0])
    what = "no gradient at all" if is_none_P[rows].all() else "a gradient of exactly zero"
    module = table.names[first].rpartition(".")[0] or table.names[first]
    others = f" (and {len(modules) - 1} more)" if len(modules) > 1 else ""
    return event(
        report,
        "dead_layer",
        Severity.WARNING,
        f"{module}{others} has {what} for {steps} steps, while other layers train.",
        "Look for .detach(), torch.no_grad() or .data on the way from it to the loss, for a module that forward does "
        "not use, and for activations that are dead (ReLU) or saturated.",
        layer=layers[0],
        value=float(steps),
        threshold=float(steps),
        attributes={
            "layers": layers[:_MAX_NAMED],
            "modules": list(modules)[:_MAX_NAMED],
            "parameter": table.names[first],
            "is_none": bool(is_none_P[rows].all()),
            "since_step": max(report.step - int(steps) + 1, 0),
        },
    )
