"""The gradient norm of every layer over epochs or steps, with the layers' health: the columns of a heatmap.

Shape legend: G layers of a grid, in the order in which they were first named.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ..records import HEALTH_STATES, Flags, Floats, Integers
from .log import Entry, columns, real
from .spans import Spans

__all__ = ["HEALTHY", "LayerColumn", "LayerGrid"]

MAX_COLUMNS = 96
HEALTHY = "healthy"


@dataclass(slots=True)
class LayerColumn:
    """An epoch, a window or a span of steps: what is known of each layer, and of the whole."""

    first: int = 0
    """Epoch or window; step where the grid is by steps."""
    last: int = -1
    first_step: int = 0
    last_step: int = -1
    num_steps: int = 0
    seconds: float = 0.0
    num_samples: int = 0
    loss_total: float = 0.0
    loss_weight: float = 0.0
    norm_total: float = 0.0
    norm_weight: float = 0.0
    num_nonfinite_steps: int = 0
    totals_G: Floats = field(default_factory=lambda: np.zeros(0))
    weights_G: Floats = field(default_factory=lambda: np.zeros(0))
    num_nonfinite_G: Integers = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    health: dict[int, tuple[str, str]] = field(default_factory=dict)
    """State and the rule that decided, by the index of the layer."""

    @property
    def loss(self) -> float | None:
        """Mean over the steps with a finite one."""
        return self.loss_total / self.loss_weight if self.loss_weight else None

    @property
    def global_norm(self) -> float | None:
        """Mean of the global gradient norm."""
        return self.norm_total / self.norm_weight if self.norm_weight else None

    def norms(self, num_layers: int) -> Floats:
        """[G] mean norm over the steps with a finite one, NaN where there is none."""
        self._fit(num_layers)
        with np.errstate(invalid="ignore", divide="ignore"):
            norms_G: Floats = np.where(self.weights_G > 0, self.totals_G / self.weights_G, np.nan)
        return norms_G[:num_layers]

    def is_nonfinite(self, num_layers: int) -> Flags:
        """[G] whether a gradient of the layer was NaN or infinite."""
        self._fit(num_layers)
        flags_G: Flags = self.num_nonfinite_G[:num_layers] > 0
        return flags_G

    def place(self, first: int, last: int, first_step: int, last_step: int) -> None:
        """Extend the column to these positions."""
        if self.last < self.first:
            self.first, self.first_step = first, first_step
        self.last, self.last_step = last, last_step

    def add(self, layers_G: Integers, norms_G: Floats, weights_G: Floats, num_nonfinite_G: Integers) -> None:
        """Take in mean norms of the layers with these indices, each over so many steps."""
        self._fit(int(layers_G.max(initial=-1)) + 1)
        weights_G = np.where(np.isfinite(norms_G), weights_G, 0.0)
        np.add.at(self.totals_G, layers_G, np.where(weights_G > 0, norms_G, 0.0) * weights_G)
        np.add.at(self.weights_G, layers_G, weights_G)
        np.add.at(self.num_nonfinite_G, layers_G, num_nonfinite_G)

    def judge(self, layer: int, state: str, rule: str) -> None:
        """Take in a layer's state; the worst of a column's epochs stays."""
        known = self.health.get(layer, ("", ""))[0]
        if known not in HEALTH_STATES or (
            state in HEALTH_STATES and HEALTH_STATES.index(state) > HEALTH_STATES.index(known)
        ):
            self.health[layer] = (state, rule)

    def merge(self, other: LayerColumn) -> None:
        """Take in a later column."""
        self.place(other.first, other.last, other.first_step, other.last_step)
        for name in (
            "num_steps", "seconds", "num_samples", "loss_total", "loss_weight", "norm_total", "norm_weight",
            "num_nonfinite_steps",
        ):  # fmt: skip
            setattr(self, name, getattr(self, name) + getattr(other, name))
        num_layers = max(len(self.totals_G), len(other.totals_G))
        self._fit(num_layers)
        other._fit(num_layers)
        self.totals_G += other.totals_G
        self.weights_G += other.weights_G
        self.num_nonfinite_G += other.num_nonfinite_G
        for layer, (state, rule) in other.health.items():
            self.judge(layer, state, rule)

    def _fit(self, num_layers: int) -> None:
        missing = num_layers - len(self.totals_G)
        if missing > 0:
            self.totals_G = np.pad(self.totals_G, (0, missing))
            self.weights_G = np.pad(self.weights_G, (0, missing))
            self.num_nonfinite_G = np.pad(self.num_nonfinite_G, (0, missing))


class LayerGrid:
    """Columns of one kind, MAX_COLUMNS at the most; `unit` is `epoch`, `window` or `step`."""

    def __init__(self, unit: str) -> None:
        self.unit = unit
        self.has_health = False
        self._layers: dict[str, int] = {}
        self._spans: Spans[LayerColumn] = Spans(LayerColumn, MAX_COLUMNS)
        self._latest: tuple[object, Integers] | None = None

    @property
    def layers(self) -> Sequence[str]:
        """Every layer that was named."""
        return tuple(self._layers)

    @property
    def per_column(self) -> int:
        """How many epochs, windows or steps a column is of."""
        return self._spans.width

    def columns(self) -> list[LayerColumn]:
        """Return the columns in their order."""
        return self._spans.cells()

    def add_step(self, step: int, gradients: Entry) -> None:
        """Take in the gradients of a step line."""
        layers_G = self._indices(gradients.get("layers", []))
        norms = gradients.get("layer_norms")
        if not isinstance(norms, list) or len(norms) != len(layers_G):
            return
        norms_G = np.array(columns(norms))
        column = self._spans.at(step)
        column.place(step, step, step, step)
        column.num_steps += 1
        is_known = np.array([norm is not None for norm in norms], dtype=np.bool_)
        is_nonfinite = (is_known & ~np.isfinite(norms_G)).astype(np.int64)
        column.add(layers_G, norms_G, np.ones(len(norms)), is_nonfinite)

    def add_epoch(self, position: int, entry: Entry) -> None:
        """Take in the line of an epoch or a window, which is the `position`-th."""
        column = self._spans.at(position)
        column.place(position, position, entry["first_step"], entry["last_step"])
        column.num_steps += entry["num_steps"]
        column.seconds += real(entry.get("duration_seconds")) or 0.0
        column.num_samples += entry.get("num_samples") or 0
        column.num_nonfinite_steps += entry.get("num_nonfinite_steps") or 0
        if (loss := real(entry.get("loss"))) is not None:
            column.loss_total += loss * entry["num_steps"]
            column.loss_weight += entry["num_steps"]
        if (norm := real((entry.get("global_norm") or {}).get("mean"))) is not None:
            column.norm_total += norm * entry["num_steps"]
            column.norm_weight += entry["num_steps"]
        if entry.get("gradients"):
            self._add_statistics(column, entry["gradients"])

    def _add_statistics(self, column: LayerColumn, gradients: Entry) -> None:
        layers_G = self._indices(gradients["layers"])
        weights, bad = columns(gradients.get("num_steps")), columns(gradients.get("num_nonfinite_steps"))
        column.add(
            layers_G, np.array(columns(gradients["mean"])), np.array(weights), np.array(bad, dtype=np.int64)
        )  # fmt: skip
        states: Sequence[str] = gradients.get("health") or ()
        rules: Sequence[str] = gradients.get("health_rule") or [""] * len(states)
        for layer, state, rule in zip(layers_G.tolist(), states, rules, strict=False):
            if state:  # without a gradient there is none
                self.has_health = True
                column.judge(layer, str(state), str(rule or ""))

    def _indices(self, layers: Sequence[str]) -> Integers:
        if self._latest is None or self._latest[0] is not layers:  # the reader carries one list on from line to line
            indices = [self._layers.setdefault(str(layer), len(self._layers)) for layer in layers]
            self._latest = (layers, np.array(indices, dtype=np.int64))
        return self._latest[1]
