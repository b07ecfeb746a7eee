"""Regions: whose saved-tensor hooks are on, and which number the next node has; private parts of torch."""

from __future__ import annotations

import inspect
import os
import sys
from types import FrameType
from typing import Any

import torch

from .places import is_running

__all__ = ["CHECKPOINTED", "is_in_compiled", "is_packing", "next_sequence", "region"]

CHECKPOINTED = "checkpoint"
_DYNAMO = os.path.join(torch.__path__[0], "_dynamo", "eval_frame.py")  # noqa: PTH118 - as code objects have it


def next_sequence() -> int:
    """Return the number that the next node of this thread will have: while an operator runs, its own is one less."""
    sequence: int = torch._C._autograd._get_sequence_nr()  # private
    return sequence


def region() -> str | None:
    """Return whose saved-tensor hooks are on top, under which PyTorch checks no versions; None where there are none."""
    pack = _pack_hook()
    if pack is None:
        return None
    name: str = getattr(pack, "__qualname__", "saved_tensors_hooks").partition(".")[0]
    if name in {"_checkpoint_hook", "_recomputation_hook"}:
        return CHECKPOINTED
    return name if name == "save_on_cpu" else "saved_tensors_hooks"


def is_packing(frame: FrameType) -> bool:
    """Whether an operator is part of a hook that saves: it comes between a node and the node's own operator."""
    pack = _pack_hook()
    code = None if pack is None else getattr(inspect.unwrap(pack), "__code__", None)
    return code is not None and is_running(frame, code)


def is_in_compiled() -> bool:
    """Whether a compiled function is on the stack: it brings the dispatcher's state back to what it was before.

    A mode that comes or goes meanwhile would leave the dispatcher looking for one that is not there.
    """
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        code = frame.f_code
        if code.co_filename == _DYNAMO and code.co_name != "_fn":  # that is the wrapper of what dynamo leaves alone
            return True
        frame = frame.f_back
    return False


def _pack_hook() -> Any:
    top = getattr(torch._C._autograd, "_top_saved_tensors_default_hooks", None)  # private
    hooks = None if top is None else top(True)
    return None if hooks is None else hooks[0]
