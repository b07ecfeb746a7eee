"""What the simulation leaves out: values that are on the host in a loop on CUDA as well."""

from __future__ import annotations

import os
from types import FrameType

import torch.utils.data
from torch.optim import Optimizer

__all__ = ["is_host_side"]

_DATA = os.path.dirname(torch.utils.data.__file__) + os.sep  # noqa: PTH120 - compared with co_filename, a text
_OPTIMIZER = Optimizer.profile_hook_step.__code__.co_filename
_OF_OPTIMIZER = frozenset({"_get_value", "_to_scalar"})
"""Read step counts and learning rates, which optimizers keep on the host."""


def is_host_side(frame: FrameType | None) -> bool:
    """Whether the call comes out of a DataLoader (data sets, samplers), or reads an optimizer's step count."""
    while frame is not None:
        code = frame.f_code
        if code.co_filename.startswith(_DATA):
            return True
        if code.co_name in _OF_OPTIMIZER and code.co_filename == _OPTIMIZER:
            return True
        frame = frame.f_back
    return False
