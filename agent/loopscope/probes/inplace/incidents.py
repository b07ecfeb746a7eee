"""Incidents: what the watch has found, before it is put into words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .places import Place

__all__ = ["Cause", "Incident"]

Cause = Literal[
    "raised", "predicted", "unchecked", "bypassed", "kept", "stale", "repeated", "misread", "rescaled",
    "hook", "own_hook",
]  # fmt: skip
"""PyTorch raised; it will; it checks nothing under hooks; the write bypassed its check; a custom
function kept the tensor by itself; a recomputation reads something else than the forward did; it writes once more, and
reads that; a value was changed without a node; a hook changed its gradient, which others use, or nobody else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Incident:
    """Who wrote to what somebody else had saved."""

    cause: Cause
    operator: str
    place: Place | None
    saved_operator: str | None = None
    saved_place: Place | None = None
    region: str | None = None
    is_leaf: bool = False
    """Whether it wrote to a weight."""

    @property
    def key(self) -> tuple[str, Place | None, str]:
        """A line that writes is one incident, however many tensors it writes to and whoever had saved them."""
        return self.cause, self.place, self.operator if self.place is None else ""
