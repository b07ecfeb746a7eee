"""Phases: what an operator is part of, as the frames between it and the autograd engine tell."""

from __future__ import annotations

from enum import Enum
from types import FrameType

from .places import CHECKPOINT, FUNCTION, frames_of_call

__all__ = ["Phase", "phase_of"]


class Phase(Enum):
    """What an operator is part of."""

    FORWARD = 0
    NODE = 1
    """A node of PyTorch's own, in backward."""
    FUNCTION = 2
    """The backward of a custom function."""
    RECOMPUTATION = 3
    """A checkpointed forward, run once more."""
    HOOK = 4
    """A hook on a tensor, a node or a module."""


def phase_of(frame: FrameType) -> Phase:
    """Return what an operator that runs during backward is part of."""
    frames = frames_of_call(frame)
    if not frames:
        return Phase.NODE
    codes = [each.f_code for each in frames]
    if any(code.co_filename == CHECKPOINT for code in codes):
        return Phase.RECOMPUTATION
    if any((code.co_filename, code.co_name) == FUNCTION for code in codes):
        return Phase.FUNCTION
    return Phase.HOOK
