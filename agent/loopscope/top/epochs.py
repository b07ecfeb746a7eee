"""The latest epochs, or windows of steps where there are none, in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..report.humanise import UNKNOWN, count, number, seconds, span
from .reading import real, whole
from .state import State

__all__ = ["EpochRow", "epoch_rows"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochRow:
    """An epoch, or a window."""

    unit: str
    """`epoch` or `window`."""
    name: str
    steps: str
    loss: str
    norm: str
    """Mean of the gradient norm."""
    nonfinite: str
    """Steps that were not finite."""
    took: str


def epoch_rows(state: State) -> Sequence[EpochRow]:
    """Return the epochs of this optimizer that are kept, the latest first."""
    ours = [entry for entry in state.epochs if entry.get("optimizer") == state.optimizer]
    unit = "epoch" if any(entry.get("kind") == "epoch" for entry in ours) else "window"
    return [
        EpochRow(
            unit=unit,
            name=count(whole(entry.get("epoch" if unit == "epoch" else "window"))),
            steps=span(whole(entry.get("first_step")), whole(entry.get("last_step"))),
            loss=number(real(entry.get("loss"))),
            norm=number(real(entry.get("norm_mean"))),
            nonfinite=count(whole(entry.get("num_nonfinite_steps"))) if entry.get("num_nonfinite_steps") else UNKNOWN,
            took=seconds(real(entry.get("duration_seconds"))),
        )
        for entry in reversed(ours)
        if entry.get("kind") == unit
    ]
