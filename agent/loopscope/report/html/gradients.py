"""The layers' gradient norms and the magnitudes of their elements as heatmaps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...records import EXPONENT_LOW, Floats
from ..humanise import UNKNOWN, count, number, power, share, span, steps
from ..layers import HEALTHY, LayerColumn, LayerGrid
from ..magnitudes import Magnitudes, bin_name
from ..tracks import Track
from .elements import Html, details, table, tag
from .heatmaps import Cell, heatmap, legend

__all__ = ["layer_heatmap", "magnitude_heatmap", "shown_layers"]

MAX_ROWS = 64
LETTERS = {"vanishing": "V", "exploding": "E", "dead": "D", "nonfinite": "N", "unstable": "U"}
_MAX_LETTER_COLUMNS = 32
_HALF_LIMITS = ((-14, f"float16 loses digits below {power(-14)}"), (-24, f"float16 ends at {power(-24)}"))
_RARE = 1e-4
"""Exponents beyond those that hold this share at any time are left out at both ends."""


@dataclass(frozen=True, slots=True)
class _Map:
    """What a heatmap of layers is drawn from; `low` and `high` are the ends of its colours."""

    grid: LayerGrid
    columns: Sequence[LayerColumn]
    norms_CG: Floats
    low: float
    high: float

    @classmethod
    def of(cls, grid: LayerGrid) -> _Map:
        columns = grid.columns()
        norms_CG = np.array([column.norms(len(grid.layers)) for column in columns])
        positive = norms_CG[np.isfinite(norms_CG) & (norms_CG > 0)]
        low, high = (float(positive.min()), float(positive.max())) if positive.size else (1.0, 1.0)
        return cls(grid, columns, norms_CG, low, high)

    def level(self, norm: float) -> float:
        """Return where a norm lies between `low` and `high`, on a logarithmic scale."""
        if norm <= 0:
            return 0.0
        return 1.0 if self.low == self.high else math.log(norm / self.low) / math.log(self.high / self.low)


def layer_heatmap(track: Track, order: Sequence[str]) -> Html:
    """Return layers by epochs (windows, spans of steps), in the model's order, with their health where it is known."""
    grid = track.grid
    if not grid.layers:
        return tag("p", "No gradients were logged.", class_="muted")
    drawn = _Map.of(grid)
    rows = shown_layers(grid, drawn.columns, order)
    cells = [(grid.layers[row], [_cell(drawn, c, row) for c in range(len(drawn.columns))]) for row in rows]
    note = _note(grid, len(grid.layers), len(rows))
    title = f"Gradient norm by layer and {grid.unit}"
    return tag(
        "figure",
        _caption(title, "mean over the steps, colours on a logarithmic scale", note),
        legend(number(drawn.low), number(drawn.high), *_keys(drawn)),
        heatmap(f"{title}. {note}", cells, [span(column.first, column.last) for column in drawn.columns]),
        details("Numbers", _table(drawn, rows)),
        class_="chart wide",
    )


def magnitude_heatmap(magnitudes: Magnitudes) -> Html:
    """Return exponents by steps: the share of the elements with that magnitude, of the sampled steps."""
    spans = magnitudes.spans()
    shares_CB: Floats = np.array([each.shares for each in spans])
    used = np.flatnonzero((shares_CB >= _RARE).any(0))
    low, high = int(used.min()), int(used.max())
    largest = float(shares_CB.max())
    rows = []
    for row in range(high, low - 1, -1):
        name = bin_name(row)
        cells = [
            Cell(
                math.sqrt(float(shares_CB[c, row]) / largest) if shares_CB[c, row] else None,
                f"{steps(each.first_step, each.last_step)}: {share(float(shares_CB[c, row]))} {name}",
            )
            for c, each in enumerate(spans)
        ]
        exponent = EXPONENT_LOW + row - 1
        rows.append((power(exponent) if (high - row) % 4 == 0 and row > 0 else "", cells))
    edges = [(exponent - EXPONENT_LOW + 1, text) for exponent, text in _HALF_LIMITS]
    lines = [(float(high + 1 - edge), text) for edge, text in edges if low + 1 < edge <= high]
    num_sampled = sum(each.num_sampled_steps for each in spans)
    note = f"{count(num_sampled)} sampled steps · zeros, non-finite and the rarest elements are left out"
    title = "Magnitude of the gradients' elements"
    names = [steps(each.first_step, each.last_step) for each in spans]
    return tag(
        "figure",
        _caption(title, "share by power of two, over the steps", note),
        legend("0 %", share(largest)),
        heatmap(f"{title}. {note}", rows, [count(each.first_step) for each in spans], row_height=8, lines=lines),
        details("Numbers", _magnitude_table(shares_CB, names)),
        class_="chart wide",
    )


def shown_layers(grid: LayerGrid, columns: Sequence[LayerColumn], order: Sequence[str]) -> list[int]:
    """Return the indices of MAX_ROWS layers in the model's order: those that were not healthy or not finite before
    others, then an even choice of the rest.
    """
    layers = grid.layers
    places = {layer: place for place, layer in enumerate(order)}
    ranked = sorted(range(len(layers)), key=lambda index: (places.get(layers[index], len(order)), index))
    if len(ranked) <= MAX_ROWS:
        return ranked
    is_bad = np.any([column.is_nonfinite(len(layers)) for column in columns], axis=0)
    is_bad[[index for column in columns for index, (state, _) in column.health.items() if state != HEALTHY]] = True
    bad = [index for index in ranked if is_bad[index]][:MAX_ROWS]
    rest = [index for index in ranked if not is_bad[index]]
    num_free = MAX_ROWS - len(bad)
    chosen = {*bad, *(rest[place * len(rest) // num_free] for place in range(num_free) if rest)}
    return [index for index in ranked if index in chosen]


def _caption(title: str, unit: str, note: str) -> Html:
    return tag("figcaption", tag("h4", title, tag("small", f" {unit}")), tag("p", note, class_="muted"))


def _cell(drawn: _Map, c: int, row: int) -> Cell:
    column, norm = drawn.columns[c], float(drawn.norms_CG[c, row])
    state, rule = column.health.get(row, ("", ""))
    num_bad = int(column.num_nonfinite_G[row])
    words = [f"{drawn.grid.layers[row]}, {drawn.grid.unit} {span(column.first, column.last)}: {_norm(norm)}"]
    if num_bad:
        words.append(f"{count(num_bad)} steps not finite")
    if state:
        words.append(state + (f" ({rule})" if rule else ""))
    level = None if math.isnan(norm) else drawn.level(norm)
    is_bad = bool(num_bad) and level is None
    classes = ["bad" if is_bad else "", "state" if state and state != HEALTHY else ""]
    letter = LETTERS.get(state, "N" if is_bad else "") if len(drawn.columns) <= _MAX_LETTER_COLUMNS else ""
    return Cell(level, " · ".join(words), " ".join(filter(None, classes)), letter)


def _norm(norm: float) -> str:
    return "no finite norm" if math.isnan(norm) else f"norm {number(norm)}"


def _keys(drawn: _Map) -> list[tuple[str, str, str]]:
    states = {state for column in drawn.columns for state, _ in column.health.values()}
    keys = [("state", letter, state) for state, letter in LETTERS.items() if state in states]
    is_bad_CG = np.array([column.is_nonfinite(len(drawn.grid.layers)) for column in drawn.columns])
    is_unknown_CG = np.isnan(drawn.norms_CG)
    if (is_unknown_CG & is_bad_CG).any():
        keys.append(("bad", "N", "never finite"))
    if (is_unknown_CG & ~is_bad_CG).any():
        keys.append(("empty", "", "no gradient"))
    return keys


def _note(grid: LayerGrid, num_layers: int, num_rows: int) -> str:
    notes = [f"{count(num_layers)} layers in the model's order"]
    if num_rows < num_layers:
        notes.append(
            f"{count(num_layers - num_rows)} are left out: shown are those that were not healthy, "
            "and an even choice of the rest"
        )
    if grid.per_column > 1:
        notes.append(f"{grid.per_column} {grid.unit}s a column")
    return " · ".join(notes)


def _table(drawn: _Map, rows: Sequence[int]) -> Html:
    lines = []
    for row in rows:
        norms_C = drawn.norms_CG[:, row]
        finite = norms_C[np.isfinite(norms_C)]
        first, last = (float(finite[0]), float(finite[-1])) if finite.size else (None, None)
        states = [column.health[row][0] for column in drawn.columns if row in column.health]
        num_bad = sum(int(column.num_nonfinite_G[row]) for column in drawn.columns)
        state = states[-1] if states else UNKNOWN
        lines.append([drawn.grid.layers[row], state, number(first), number(last), count(num_bad)])
    unit = drawn.grid.unit
    header = ["layer", "health at the end", f"first {unit}", f"last {unit}", "steps not finite"]
    return table(header, lines, caption="Gradient norm by layer", num_texts=2)


def _magnitude_table(shares_CB: Floats, names: Sequence[str], max_rows: int = 12) -> Html:
    every = max(-(-len(names) // max_rows), 1)
    rows = []
    for c in range(0, len(names), every):
        cumulative_B = np.cumsum(shares_CB[c])
        if not cumulative_B[-1]:
            continue
        quantiles = [int(np.searchsorted(cumulative_B, level)) for level in (0.05, 0.5, 0.95)]
        rows.append([names[c], *(bin_name(index) for index in quantiles)])
    return table(["", "5 % below", "median", "95 % below"], rows, caption="Magnitudes over the steps", num_texts=4)
