"""Call: an operator that is about to run, or has just run, and what it was part of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Any

from torch import Tensor

from ..operators import Traits, tensors_in
from .phases import Phase

__all__ = ["Call"]


@dataclass(slots=True)
class Call:
    """What the watch keeps of an operator from before it runs until after it."""

    traits: Traits
    args: Sequence[Any]
    keywords: Mapping[str, Any]
    frame: FrameType
    phase: Phase
    number: int | None
    """The sequence number of the node that runs, in backward."""
    written: Sequence[Tensor] = ()
    snapshots: dict[int, Any] | None = None
    """By storage, what was there before."""

    def tensors(self) -> list[Tensor]:
        """Return the tensors among its arguments."""
        tensors = tensors_in(self.args)
        return tensors + tensors_in(self.keywords.values()) if self.keywords else tensors
