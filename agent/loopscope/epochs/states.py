"""LayerStates: the worst state of each layer in an epoch or window, and how its norm compares with the one before."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from ..records import HEALTHY, Floats, LayerState, LayerStatistics

__all__ = ["LayerStates", "trend"]


class LayerStates:
    """Collects the states of one span."""

    def __init__(self) -> None:
        self._worst: dict[str, LayerState] = {}

    def add(self, states: Mapping[str, LayerState]) -> None:
        """Take in the layers that were not healthy at a step."""
        for layer, state in states.items():
            self._worst[layer] = self._worst.get(layer, HEALTHY).or_worse(state)

    def complete(self, statistics: LayerStatistics, before: LayerStatistics | None) -> LayerStatistics:
        """Return the statistics with states and trend; a layer without any gradient has a state only if it is ill."""
        num_steps = statistics.num_steps.tolist()
        states = [
            self._worst.get(layer, HEALTHY if count else None)
            for layer, count in zip(statistics.layers, num_steps, strict=True)
        ]
        return dataclasses.replace(
            statistics,
            health=tuple("" if state is None else state.state for state in states),
            health_rule=tuple("" if state is None else state.rule for state in states),
            trend=trend(statistics, before),
        )


def trend(statistics: LayerStatistics, before: LayerStatistics | None) -> Floats:
    """Return [G] the mean norm of each layer over that of the span before; NaN where either is not known or zero."""
    known = {} if before is None else dict(zip(before.layers, before.mean.tolist(), strict=True))
    before_G = np.array([known.get(layer, np.nan) for layer in statistics.layers])
    trend_G = np.full(len(before_G), np.nan)
    with np.errstate(over="ignore"):
        np.divide(statistics.mean, before_G, out=trend_G, where=before_G > 0)
    return trend_G
