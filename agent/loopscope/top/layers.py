"""The layers, the worst first: state, norm and its course, update ratio, share of zeros."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..records import HEALTH_STATES
from ..report.humanise import UNKNOWN, number, share
from .reading import mapping, text
from .state import State

__all__ = ["LayerRow", "layer_rows"]

HEALTHY = HEALTH_STATES[0]
_CRITICAL = frozenset({"nonfinite", "exploding"})


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerRow:
    """One layer, in words."""

    name: str
    state: str
    rule: str
    """The kind of event that decided the state; empty where healthy."""
    norm: str
    points: Sequence[float]
    """The norm over the run."""
    update_ratio: str
    zero_ratio: str

    @property
    def is_critical(self) -> bool:
        """Whether the state is of those that end a training."""
        return self.state in _CRITICAL

    @property
    def is_healthy(self) -> bool:
        """Whether nothing is wrong with it, so far as is known."""
        return not self.rule


def layer_rows(state: State) -> Sequence[LayerRow]:
    """Return a row for each layer: the unhealthy ones first, the worst of them foremost, else in the model's order."""
    judged = mapping(mapping(state.health.get("layers")).get(state.optimizer or ""))
    columns = state.layers.columns
    rows = []
    for index, name in enumerate(state.layers.names):
        norm, update, zeros = (columns[column][index] for column in ("norm", "update_ratio", "zero_ratio"))
        word, rule = _judgement(mapping(judged.get(name)), norm)
        rows.append(
            LayerRow(
                name=name,
                state=word,
                rule=rule,
                norm=_known(norm),
                points=state.history.layers.get(name, ()),
                update_ratio=_known(update),
                zero_ratio=share(zeros),
            )
        )
    return sorted(rows, key=_order)


def _judgement(found: Mapping[str, object], norm: float) -> tuple[str, str]:
    word = text(found.get("state"))
    if word:
        return word, text(found.get("rule")) or word
    return ("no gradient" if math.isnan(norm) else HEALTHY), ""


def _order(row: LayerRow) -> int:
    return -HEALTH_STATES.index(row.state) if row.state in HEALTH_STATES else 0


def _known(value: float) -> str:
    if math.isnan(value):
        return UNKNOWN
    return number(value) if math.isfinite(value) else "NaN"
